import torch

from bidexhands.tasks.push_block import ShadowHandPushBlock


class Wrapper:
    def __init__(self, task):
        self.task = task

    def step(self, actions):
        self.task.step(torch.clamp(actions, -1, 1))
        clipped = torch.clamp(self.task.obs_buf, -5, 5)
        return clipped, self.task.rew_buf, self.task.reset_buf, {}


def parse_task(args, cfg, cfg_train, sim_params, agent_index):
    assert sim_params == ("cpu", "cpu") and args.headless and args.algo == "ppo"
    task = ShadowHandPushBlock(cfg["num_envs"], cfg["length"])
    return task, Wrapper(task)
