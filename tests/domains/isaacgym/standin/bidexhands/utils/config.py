import argparse
import sys
from pathlib import Path


def get_args(task_name="", algo=""):
    parser = argparse.ArgumentParser()
    parser.add_argument("--headless", action="store_true")
    parser.add_argument("--num_envs", type=int, default=0)
    parser.add_argument("--num_threads", type=int, default=0)
    parser.add_argument("--seed", type=int)
    for name in ("--sim_device", "--rl_device", "--pipeline"):
        parser.add_argument(name)
    args = parser.parse_args()
    args.task, args.algo = task_name, algo
    return args


def load_cfg(args):
    # Found relative to the package only.
    length = int(Path("cfg.txt").read_text())
    return {"num_envs": args.num_envs, "length": length}, {"seed": args.seed}, "logs"


def parse_sim_params(args, cfg, cfg_train):
    sys.stdout.write("Isaac Gym prints to the standard output\n")
    return args.sim_device, args.pipeline


def set_seed(seed):
    import torch

    torch.manual_seed(seed)
