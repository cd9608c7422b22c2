"""Exercises of lesson 09: steps in a bowl, Nesterov's look ahead, parts of a batch, AdamW, saddles, warm-up, a race."""

from __future__ import annotations

import math

import numpy as np
import torch

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def check_steps_to(steps_to) -> str:
    cases = (
        (0.1, 4.0, 0.01, 10),  # factor 0.6
        (0.45, 4.0, 0.5, 4),  # factor -0.8
        (0.25, 4.0, 1e-9, 1),  # there in one step
        (0.01, 1.0, 0.5, 69),
        (0.125, 4.0, 0.25, 2),  # exactly a quarter
        (0.5, 4.0, 0.1, math.inf),
        (0.6, 4.0, 0.1, math.inf),
    )
    for rate, curvature, share, wanted in cases:
        answer = float(steps_to(rate, curvature, share))
        what = f"rate {rate}, curvature {curvature}, share {share}"
        if wanted == math.inf and answer != math.inf:
            raise Wrong(
                f"{what}: the factor is {1 - rate * curvature:g}, |w| never shrinks; expected math.inf, got {answer:g}"
            )
        if not float(answer).is_integer() and answer != math.inf:
            raise Wrong(f"{what}: steps are whole numbers, got {answer:g}; round up")
        factor, mistakes = 1 - rate * curvature, []
        if factor < 0:
            mistakes = [
                (1.0, "the factor is negative, and |w| is asked for: take its absolute value")
            ]
        if factor != 0:
            mistakes.append((float(wanted) - 1, "one step less is not enough: round up, not down"))
        expect_same(
            answer,
            float(wanted),
            what,
            mistakes,
        )
    return "|1 - rate * curvature| to the power of the steps must come down to share"


def steps_to(rate, curvature, share):
    factor = abs(1 - rate * curvature)
    if factor >= 1:
        return math.inf
    left, steps = 1.0, 0
    while left > share:
        left, steps = left * factor, steps + 1
    return steps


def check_look_ahead(look_ahead) -> str:
    g = torch.Generator().manual_seed(3)
    curvatures = torch.tensor([1.0, 7.0, 30.0], dtype=torch.float64)

    def gradient(w):
        return curvatures * w + torch.sin(w)  # no bowl: where it is taken matters

    for rate, rho in ((0.02, 0.9), (0.05, 0.5), (0.01, 0.99)):
        w = torch.randn(3, generator=g).double()
        v = torch.randn(3, generator=g).double()
        ahead = rho * v + gradient(w - rate * rho * v)
        here = rho * v + gradient(w)
        what = f"rate {rate}, rho {rho}"
        new_w, new_v = expect_pair(look_ahead(w.clone(), v.clone(), gradient, rate, rho), "w", "v")
        expect_same(
            new_v,
            ahead,
            f"v, {what}",
            [
                (here, "the gradient was taken at w: this is plain momentum"),
                (
                    rho * v + gradient(w + rate * rho * v),
                    "the place looked at is w minus rate * rho * v: v points uphill",
                ),
                (
                    rho * v + gradient(w - rho * v),
                    "the place looked at is rate * rho * v away, not rho * v",
                ),
                (gradient(w - rate * rho * v), "the old velocity, times rho, is missing"),
            ],
        )
        expect_same(
            new_w,
            w - rate * ahead,
            f"w, {what}",
            [
                (w - rate * v, "the step is taken with the new v"),
                (
                    w - rate * rho * v - rate * ahead,
                    "step from w, not from the place looked at: the new v holds rho * v already",
                ),
                (w + rate * ahead, "downhill is minus rate times v"),
            ],
        )
    return "look at the slope where the velocity leads, then correct it"


def look_ahead(w, v, gradient, rate, rho):
    v = rho * v + gradient(w - rate * rho * v)
    return w - rate * v, v


def check_whole_gradient(whole_gradient) -> str:
    g = np.random.default_rng(2)
    for sizes in ([16, 16, 16, 16], [16, 16, 5], [1, 64], [7]):
        parts = [g.normal(size=6) for _ in sizes]
        weighted = sum(size * part for size, part in zip(sizes, parts, strict=True))
        expect_same(
            whole_gradient([part.copy() for part in parts], list(sizes)),
            weighted / sum(sizes),
            f"parts of {sizes}",
            [
                (
                    sum(parts) / len(parts),
                    "a part with few pictures counts as much as a full one: weigh each by its pictures",
                ),
                (weighted, "this is the sum over all pictures; the gradient is their mean"),
                (sum(parts), "the parts were only added up"),
                (weighted / len(sizes), "divide by the number of pictures, not of parts"),
            ],
        )
    return "sum over pictures, divide once at the end"


def whole_gradient(gradients, sizes):
    total = sum(size * gradient for gradient, size in zip(gradients, sizes, strict=True))
    return total / sum(sizes)


def check_adamw_step(adamw_step) -> str:
    g = torch.Generator().manual_seed(4)
    for rate, decay in ((0.01, 0.1), (0.1, 0.5), (0.001, 0.0)):
        parameter = torch.randn(5, generator=g).double().requires_grad_()
        optimizer = torch.optim.AdamW([parameter], lr=rate, weight_decay=decay)
        w, m, v = parameter.detach().clone(), torch.zeros(5).double(), torch.zeros(5).double()
        for t in (1, 2, 3):
            gradient = torch.randn(5, generator=g).double()
            parameter.grad = gradient.clone()
            optimizer.step()
            if t == 1:  # a first step has length 1 whatever the gradient: mistakes look alike
                w, m, v = _adamw(w, gradient, m, v, t, rate, decay)
                continue
            answer = adamw_step(w.clone(), gradient.clone(), m.clone(), v.clone(), t, rate, decay)
            if not isinstance(answer, tuple | list) or len(answer) != 3:
                raise Wrong(f"expected three values (w, m, v), got {type(answer).__name__}")
            mistakes = [
                (_adamw(w, gradient, m, v, t, rate, decay, how), sentence)
                for how, sentence in ADAMW_MISTAKES.items()
            ]
            w, m, v = _adamw(w, gradient, m, v, t, rate, decay)
            what = f"step {t}, rate {rate}, decay {decay}"
            expect_same(
                answer[0],
                parameter.detach(),
                f"w, {what}",
                [(wrong[0], sentence) for wrong, sentence in mistakes],
            )
            expect_same(answer[1], m, f"m, {what}", [(m / (1 - 0.9**t), KEEP.format("m"))])
            expect_same(answer[2], v, f"v, {what}", [(v / (1 - 0.999**t), KEEP.format("v"))])
    return "equal to torch.optim.AdamW"


KEEP = "hand on {} as it is; the corrected one is for this step only"
ADAMW_MISTAKES = {
    "in the gradient": "the decay went into the gradient (that is Adam with L2): AdamW shrinks the weights themselves",
    "without correction": "m and v begin at 0: divide them by 1 - beta**t before the step",
    "without rate": "weights are multiplied by 1 - rate * decay, not by 1 - decay",
    "no root": "the step is divided by the root of v",
    "forgotten": "the decay is missing",
}


def _adamw(w, g, m, v, t, rate, decay, mistake=""):
    """One step of AdamW, with one mistake."""
    if mistake == "in the gradient":
        g = g + decay * w
    elif mistake != "forgotten":
        w = w * (1 - (1 if mistake == "without rate" else rate) * decay)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    up, down = (m, v) if mistake == "without correction" else (m / (1 - 0.9**t), v / (1 - 0.999**t))
    return w - rate * up / ((down if mistake == "no root" else down**0.5) + 1e-8), m, v


def adamw_step(w, g, m, v, t, rate, decay):
    w = w * (1 - rate * decay)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g**2
    m_corrected, v_corrected = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return w - rate * m_corrected / (v_corrected**0.5 + 1e-8), m, v


def check_saddle_free(saddle_free) -> str:
    g = torch.Generator().manual_seed(5)
    for curvatures in ([1.0, -2.0], [3.0, 0.5, -0.1], [2.0, 5.0], [-1.0, -4.0, -2.0]):
        n = len(curvatures)
        turn = torch.linalg.qr(torch.randn(n, n, generator=g).double())[0]
        values = torch.tensor(curvatures, dtype=torch.float64)
        hessian = turn @ torch.diag(values) @ turn.T
        w, slope = torch.randn(n, generator=g).double(), torch.randn(n, generator=g).double()
        right = w - turn @ ((turn.T @ slope) / values.abs())
        expect_same(
            saddle_free(w.clone(), slope.clone(), hessian.clone()),
            right,
            f"the place after a step, curvatures {curvatures}",
            [
                (
                    w - torch.linalg.solve(hessian, slope),
                    "this is Newton's step: along directions that curve downwards it climbs",
                ),
                (
                    w - torch.linalg.solve(hessian.abs(), slope),
                    "not the entries of the Hessian: its eigenvalues get their absolute value",
                ),
                (w + turn @ ((turn.T @ slope) / values.abs()), "uphill: subtract the step"),
                (
                    w - turn @ ((turn.T @ slope) * values.abs()),
                    "divide by the curvature, do not multiply",
                ),
            ],
            tolerance=1e-7,
        )
    return "downhill along every direction, as far as the curvature says"


def saddle_free(w, g, hessian):
    values, directions = torch.linalg.eigh(hessian)  # one direction a column
    along = directions.T @ g  # the gradient along each direction
    return w - directions @ (along / values.abs())


def check_warm_cosine(warm_cosine) -> str:
    for steps, warm, highest in ((100, 10, 0.1), (20, 5, 1.0), (50, 1, 0.3)):
        right = [_warm_cosine(step, steps, warm, highest) for step in range(steps)]
        late = [
            highest * (step + 1) / warm
            if step < warm
            else highest * (1 + math.cos(math.pi * step / steps)) / 2
            for step in range(steps)
        ]
        zero = [
            highest * step / warm if step < warm else rate
            for step, rate in zip(range(steps), right, strict=True)
        ]
        double = [
            rate if step < warm else 2 * rate
            for step, rate in zip(range(steps), right, strict=True)
        ]
        expect_same(
            [float(warm_cosine(step, steps, warm, highest)) for step in range(steps)],
            right,
            f"{steps} rates with a warm-up of {warm}, highest {highest}",
            [
                (late, "the cosine begins after the warm-up, and has steps - warm steps"),
                (zero, "step 0 has the rate highest / warm, not 0"),
                (double, "(1 + cos) runs from 2 to 0: halve it"),
            ],
        )
    return "up in a line, down along half a cosine"


def _warm_cosine(step, steps, warm, highest):
    if step < warm:
        return highest * (step + 1) / warm
    return highest * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def warm_cosine(step, steps, warm, highest):
    if step < warm:
        return highest * (step + 1) / warm
    share = (step - warm) / (steps - warm)  # of the way down
    return highest * (1 + math.cos(math.pi * share)) / 2


def check_who_won(who_won) -> str:
    g = np.random.default_rng(6)
    for case in range(12):
        losses, accuracies = {}, {}
        for name in ("SGD", "Adam", "RMSprop"):
            best_at = int(g.integers(1, 5)) if case % 4 else 0  # each fourth race: not inside
            losses[name] = 0.1 + np.abs(np.arange(6) - best_at)[:, None] + 0.3 * g.random((6, 3))
            losses[name][5, 0] = 0.01  # one lucky seed at a bad rate
            accuracies[name] = g.choice([0.7, 0.8, 0.9]) + g.choice([0.01, 0.2]) * g.random((6, 3))
        answer = expect_pair(
            who_won(
                {name: row.copy() for name, row in losses.items()},
                {name: row.copy() for name, row in accuracies.items()},
            ),
            "name",
            "clear",
        )
        name, clear = answer[0], bool(answer[1])
        right = _who_won(losses, accuracies)
        if (name, clear) == right:
            continue
        for how, sentence in RACE_MISTAKES.items():
            if (name, clear) == _who_won(losses, accuracies, how):
                raise Wrong(sentence)
        raise Wrong(f"race {case + 1}: expected {right}, got {(name, clear)}")
    return (
        "rates by the training loss, from inside the ladder; a winner only beyond the seeds' spread"
    )


RACE_MISTAKES = {
    "ends": "a best rate was the first or last of its ladder: expected (None, False)",
    "by accuracy": "the rates were chosen by the test accuracy: it may judge, not choose",
    "lucky seed": "the rates were chosen by the best single seed: take the mean over the seeds",
    "means": "a higher mean is not yet clear: the winner's worst seed must beat every seed of the others",
}


def _who_won(losses, accuracies, mistake=""):
    """The answer, with one mistake."""
    chosen = {}
    for name, loss in losses.items():
        scores = {
            "by accuracy": -accuracies[name].mean(1),
            "lucky seed": loss.min(1),
        }.get(mistake, loss.mean(1))
        at = int(scores.argmin())
        if at in (0, len(loss) - 1) and mistake != "ends":
            return None, False
        chosen[name] = accuracies[name][at]
    winner = max(chosen, key=lambda name: chosen[name].mean())
    others = [values for name, values in chosen.items() if name != winner]
    if mistake == "means":
        return winner, True
    return winner, bool(chosen[winner].min() > max(values.max() for values in others))


def who_won(losses, accuracies):
    there = {}
    for name, loss in losses.items():
        best = loss.mean(1).argmin()
        if best in (0, len(loss) - 1):
            return None, False
        there[name] = accuracies[name][best]
    winner = max(there, key=lambda name: there[name].mean())
    rivals = [values.max() for name, values in there.items() if name != winner]
    return winner, there[winner].min() > max(rivals)


EXERCISES = [
    Exercise(
        "09.1",
        "Steps in a bowl",
        (
            "A step multiplies |w| by |1 - rate * curvature|. When does that never come down?",
            "Multiply by this factor and count, until share is reached; or divide two logarithms and round up.",
        ),
        check_steps_to,
        steps_to,
    ),
    Exercise(
        "09.2",
        "Nesterov's look ahead",
        (
            "First the place to look at: w - rate * rho * v. Then gradient(...) there.",
            "v = rho * v + that gradient; the new w is w - rate * v, with the w from before.",
        ),
        check_look_ahead,
        look_ahead,
    ),
    Exercise(
        "09.3",
        "A batch in parts",
        (
            "The gradient of the batch is a mean over pictures. What is size * gradient of a part?",
            "Add up size * gradient over the parts, and divide once, by all pictures.",
        ),
        check_whole_gradient,
        whole_gradient,
    ),
    Exercise(
        "09.4",
        "AdamW",
        (
            "Does the gradient hear of the decay? And which comes first, the decay or Adam's step?",
            "First w = w * (1 - rate * decay), then the lines of the class Adam with the g that came.",
        ),
        check_adamw_step,
        adamw_step,
    ),
    Exercise(
        "09.5",
        "Newton without saddles",
        (
            "values, directions = torch.linalg.eigh(hessian): along which directions does it curve downwards?",
            "directions.T @ g is the gradient along each direction. Divide it by values.abs(), and turn it back.",
        ),
        check_saddle_free,
        saddle_free,
    ),
    Exercise(
        "09.6",
        "Warm-up and cosine",
        (
            "Draw it for 10 steps, 4 of them warm-up. Which two rates are the highest?",
            "Warm-up: highest * (step + 1) / warm. Then share = (step - warm) / (steps - warm) for cos(pi * share).",
        ),
        check_warm_cosine,
        warm_cosine,
    ),
    Exercise(
        "09.7",
        "Who won?",
        (
            "For each name, losses[name].mean(1) is one number for each rate. Where is it lowest, and may it be there?",
            "Take accuracies[name][best]: the mean finds the winner; compare its minimum with the others' maxima.",
        ),
        check_who_won,
        who_won,
    ),
]
