"""`forwardgrad audit`: are rules compared, and dropped edges priced?"""

from __future__ import annotations

from cli.running import answer, needs_matplotlib


def test_audit(place, run):
    """If it failed, the audit would not run from a terminal, or answer a program with something else than JSON."""
    job = ("audit", "small.toml", "--seeds", 2, "--steps", 5)
    code, out, _ = run(
        *job, "--rules", "rtrl,snap(1),eprop; feedback=random, seed=3", "--rules", "cut(['h->h', 'x->h'])"
    )
    rules = ["rtrl", "snap(1)", "eprop; feedback=random, seed=3", "cut(['h->h', 'x->h'])"]
    assert code == 0
    assert out[0].endswith("steps per block: rtrl 1, snap(1) 1, eprop; feedback=random, seed=3 1, " + rules[-1] + " 1")
    code, out, err = run(*job, "--json")
    found = answer(out)
    assert (code, err, found["seeds"]) == (0, [], [0, 1])
    assert list(found["rules"]) == ["rtrl", "eprop-deep", "eprop", "immediate"]
    assert found["rules"]["rtrl"]["overall"]["relative_error"]["max"] < 1e-10
    assert found["rules"]["immediate"]["parameters"]["h->h"]["dropped"]["h->h"]["removes"]["mean"] > 0.99


@needs_matplotlib
def test_audit_draws(place, run):
    """If it failed, the picture would be missing, or go elsewhere."""
    code, out, _ = run("audit", "small.toml", "--seeds", 1, "--steps", 4, "--rules", "immediate", "-o", "out.png")
    assert (code, out[-1]) == (0, "wrote out.png")
    assert (place / "out.png").read_bytes().startswith(b"\x89PNG")
