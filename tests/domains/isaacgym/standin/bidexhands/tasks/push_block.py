"""A task in the reference's form, with its reset that puts back the objects of all copies."""

import torch

from bidexhands.utils.torch_jit_utils import torch_rand_float


class Gym:
    """Hand, object and table of each copy, three joints, and bodies that only a step moves."""

    def __init__(self, copies):
        self.roots = torch.zeros(copies * 3, 13)
        self.dofs = torch.zeros(copies * 3, 2)
        self.bodies = torch.zeros(copies, 4)

    def set_actor_root_state_tensor(self, sim, tensor):
        self.roots.copy_(tensor)

    def set_actor_root_state_tensor_indexed(self, sim, tensor, indices):
        self.roots[indices] = tensor[indices]

    def set_dof_state_tensor(self, sim, tensor):
        self.dofs.copy_(tensor)

    def simulate(self, force, target):
        copies = len(self.bodies)
        roots, dofs = self.roots.view(copies, 3, 13), self.dofs.view(copies, 3, 2)
        dofs[..., 1] = 0.5 * dofs[..., 1] + target - dofs[..., 0]
        dofs[..., 0] += 0.1 * dofs[..., 1]
        roots[..., 7:10] = 0.9 * roots[..., 7:10] + force[:, None]
        roots[..., 0:3] += 0.1 * roots[..., 7:10] + 0.01 * dofs[..., 0].sum(1)[:, None, None]
        self.bodies[:] = roots[:, 0, 0:1] + dofs[:, :1, 0]


class ShadowHandPushBlock:
    def __init__(self, copies, length):
        self.gym, self.sim = Gym(copies), None
        self.num_envs, self.num_obs, self.num_actions = copies, 428, 52
        self.max_episode_length = length
        self.root_state_tensor = torch.zeros(copies * 3, 13)
        self.dof_state = torch.zeros(copies * 3, 2)
        self.saved_root_tensor = torch.ones(copies * 3, 13)
        self.object_indices = torch.arange(copies) * 3 + 1
        self.goal_states = torch.zeros(copies, 3)
        self.prev_targets = torch.zeros(copies, 3)
        self.obs_buf, self.rew_buf = torch.zeros(copies, 428), torch.zeros(copies)
        self.reset_buf = torch.ones(copies, dtype=torch.long)
        self.reset_goal_buf = self.reset_buf.clone()
        self.progress_buf = torch.zeros(copies, dtype=torch.long)
        self.successes = torch.zeros(copies)

    def step(self, actions):
        env_ids = self.reset_buf.nonzero(as_tuple=False).squeeze(-1)
        goal_env_ids = self.reset_goal_buf.nonzero(as_tuple=False).squeeze(-1)
        if len(goal_env_ids) > 0:
            self.reset_target_pose(goal_env_ids)
        if len(env_ids) > 0:
            self.reset(env_ids, goal_env_ids)
        self.actions = actions.clone()
        self.prev_targets = 0.5 * self.prev_targets + 0.5 * actions[:, 6:9]
        self.gym.simulate(actions[:, 0:3], self.prev_targets)
        self.root_state_tensor.copy_(self.gym.roots)
        self.dof_state.copy_(self.gym.dofs)
        self.progress_buf += 1
        copies = self.num_envs
        self.obs_buf[:, 0:39] = self.root_state_tensor.view(copies, 39)
        self.obs_buf[:, 39:45] = self.dof_state.view(copies, 6)
        self.obs_buf[:, 45:49] = self.gym.bodies
        self.obs_buf[:, 49:52] = self.goal_states
        self.obs_buf[:, 60:112] = self.actions
        self.rew_buf[:] = self.obs_buf[:, 0]
        over = self.progress_buf >= self.max_episode_length
        fallen = self.root_state_tensor.view(copies, 3, 13)[:, 0, 0] > 4
        self.successes = torch.where(fallen, torch.ones(copies), self.successes)
        self.reset_buf = torch.where(over | fallen, torch.ones_like(self.reset_buf), self.reset_buf)
        # As in Re-Orientation: a goal that was reached is drawn anew by the copy's next step.
        self.reset_goal_buf = (self.progress_buf % 5 == 0).long()

    def reset_target_pose(self, env_ids, apply_reset=False):
        self.goal_states[env_ids] = torch_rand_float(-1.0, 1.0, (len(env_ids), 3), device="cpu")
        self.reset_goal_buf[env_ids] = 0

    def reset(self, env_ids, goal_env_ids):
        rand_floats = torch_rand_float(-1.0, 1.0, (len(env_ids), 3), device="cpu")
        self.reset_target_pose(env_ids)
        copies = self.num_envs
        self.dof_state.view(copies, 3, 2)[env_ids, :, 0] = rand_floats
        self.dof_state.view(copies, 3, 2)[env_ids, :, 1] = 0
        self.prev_targets[env_ids] = rand_floats
        # The objects of all copies, as the reference has it.
        self.root_state_tensor[self.object_indices] = self.saved_root_tensor[self.object_indices]
        # Poses only: as in the reference, the hands keep the last episode's velocities.
        self.root_state_tensor.view(copies, 3, 13)[env_ids, :2, 0:7] = 0.25
        self.gym.set_dof_state_tensor(self.sim, self.dof_state)
        # The table is not among what is set: nothing here puts it back.
        indices = torch.cat([env_ids * 3, self.object_indices])
        self.gym.set_actor_root_state_tensor_indexed(self.sim, self.root_state_tensor, indices)
        self.progress_buf[env_ids] = 0
        self.reset_buf[env_ids] = 0
        self.successes[env_ids] = 0
