"""Twenty steps of the reference estimator, update and projection on a toy, for tests/unit/test_estimator.c.

Written from the formulas alone, in torch f32 as the reference computes, with torch's own cosine schedule and a
projection by bisection. Masks and losses go into the file, so that the C side needs no random numbers of torch.

    python tests/golden/reference_trajectory.py > tests/data/learn/reference_trajectory.txt
"""
import torch

LAYERS, GROUPS, CHANNELS = 2, 3, 5
KEEP, STEPS, LR, K, W, EPS = 0.6, 20, 0.05, 2, 5, 1e-7
KINDS = [(0, LAYERS * GROUPS), (LAYERS * GROUPS, LAYERS * (GROUPS + CHANNELS))]
N = KINDS[-1][1]

torch.manual_seed(22)  # both budgets bind in some steps and are slack in others
metric = torch.randn(N, dtype=torch.float32)
score = torch.empty(N, dtype=torch.float32)
for layer in range(LAYERS):
    for first, width in ((layer * GROUPS, GROUPS), (KINDS[1][0] + layer * CHANNELS, CHANNELS)):
        m = metric[first:first + width]
        sig = torch.sigmoid((m - m.mean()) / (m.std() + 1e-8))
        score[first:first + width] = (sig - sig.mean() + KEEP).clamp(0, 1)
score[1], score[9], score[12] = 0.0, 1.0, 0.0  # both bounds, from the start


def project(s, budget):
    wide = s.double()
    if wide.clamp(0, 1).sum() <= budget:
        return s.clamp(0, 1)
    low, high = 0.0, float(wide.max())
    for _ in range(200):
        v = (low + high) / 2
        if (wide - v).clamp(0, 1).sum() > budget:
            low = v
        else:
            high = v
    return (wide - high).clamp(0, 1).float()


def row(name, values, form):
    print(name, " ".join(form % float(v) for v in values))


print(f"# tests/golden/reference_trajectory.py, torch {torch.__version__}")
print(f"shape {LAYERS} {GROUPS} {CHANNELS} keep {KEEP} steps {STEPS} lr {LR} masks {K} window {W}")
row("s", score, "%.9g")
schedule_owner = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(schedule_owner, T_max=STEPS)
weight = torch.linspace(0.1, 0.9, N)
baseline = None
for step in range(STEPS):
    masks = [(torch.rand(N) < score).float() for _ in range(K)]
    losses = [float(3.0 + ((1 - m) * weight).sum() + 0.3 * torch.randn(1)) for m in masks]
    mean = sum(losses) / K
    if baseline is None:
        baseline = mean
    baseline = (1 - 1 / W) * baseline + (1 / W) * mean
    g = torch.zeros(N)
    for m, loss in zip(masks, losses):
        g += (1 / (K - 1)) * (loss - baseline) * (m - score) / torch.sqrt((score + EPS) * (1 - score + EPS))
    score = score - schedule.get_last_lr()[0] * g
    for first, end in KINDS:
        score[first:end] = project(score[first:end], KEEP * (end - first))
    schedule_owner.step()
    schedule.step()
    for m, loss in zip(masks, losses):
        print("mask", "".join(str(int(b)) for b in m), "%.17g" % loss)
    print("baseline %.17g" % baseline)
    row("s", score, "%.9g")
