"""The table of ids: what each is made of. Imports nothing."""

ENTRY_POINTS = {  # id: "module:Dynamics"; the faces are in the same module, called ...Env and ...VectorEnv
    "sandbox/Acrobot-v1": "envs.acrobot:Acrobot",
    "sandbox/Bicycle-v0": "envs.bicycle:Bicycle",
    "sandbox/BicycleGoal-v0": "envs.bicycle:BicycleGoal",
    "sandbox/CartPole-v1": "envs.cartpole:CartPole",
    "sandbox/CartPoleNoVel-v1": "envs.cartpole:CartPoleNoVel",
    "sandbox/Catch-v0": "envs.pixel:Catch",
    "sandbox/MountainCar-v0": "envs.mountain_car:MountainCar",
    "sandbox/MountainCarContinuous-v0": "envs.mountain_car:MountainCarContinuous",
    "sandbox/Pendulum-v1": "envs.pendulum:Pendulum",
    "sandbox/PixelCartPole-v0": "envs.pixel:PixelCartPole",
    "sandbox/ProbeAction-v0": "envs.probe:ProbeAction",
    "sandbox/ProbeConstant-v0": "envs.probe:ProbeConstant",
    "sandbox/ProbeDiscount-v0": "envs.probe:ProbeDiscount",
    "sandbox/ProbeObservation-v0": "envs.probe:ProbeObservation",
    "sandbox/ProbePolicy-v0": "envs.probe:ProbePolicy",
    "sandbox/ProbeTruncation-v0": "envs.probe:ProbeTruncation",
}

IDS = tuple(sorted(ENTRY_POINTS))
