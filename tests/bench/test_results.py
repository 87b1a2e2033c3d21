"""Raw results, their file, and the verdicts and tables made from them."""

from __future__ import annotations

import pytest

from bench import compare, goals, judge, report
from bench.results import Results, Row


def results(*rows: tuple[str, str, str, dict[str, float]]) -> Results:
    """Return results of these places, each with a single round."""
    conditions = {
        "machine": "m", "cores": 2, "memory_gb": 1.0, "load_before": 0, "system": "s", "python": "p", "sqlite": "3", "images": [],
        "filesystem": "ext4", "commit": "", "when": "", "versions": {}, "stores": {}, "plan": {},
    }  # fmt: skip
    return Results(conditions, [Row(workload, case, store, 0, metrics) for workload, case, store, metrics in rows])


def verdict(found: Results, text: str) -> judge.Verdict:
    """Return the one verdict whose goal begins with these words."""
    (wanted,) = [v for v in goals.evaluate(found) if v.goal.text.startswith(text)]
    return wanted


def test_raw_results_come_back_from_their_file_as_they_were(tmp_path):
    found = results(("touch", "update 1 KB", "sqlite", {"p50_us": 1 / 3}))
    found.left_out.append({"workload": "touch", "case": "c", "store": "s", "why": "w"})
    found.save(tmp_path / "raw.json")
    assert Results.load(tmp_path / "raw.json") == found


def test_another_file_is_refused_instead_of_read_as_results(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="not raw results"):
        Results.load(tmp_path / "x.json")


def test_lost_updates_and_worst_cases_are_not_hidden_by_a_median():
    """One round in three that lost updates is a store that loses updates."""
    found = results(
        *[("hotkey", "8 processes", "x", {"lost": lost, "max_us": lost, "p50_us": lost}) for lost in (0, 0, 7)]
    )
    assert found.value("hotkey", "8 processes", "x", "lost") == 7
    assert found.value("hotkey", "8 processes", "x", "max_us") == 7
    assert found.value("hotkey", "8 processes", "x", "p50_us") == 0


@pytest.mark.parametrize(("ours", "met"), [(10.0, True), (15.0, True), (15.1, False), (60.0, False)])
def test_a_goal_that_is_missed_by_a_hair_is_missed(ours, met):
    found = results(
        ("touch", "update 1 KB", "shardstore", {"p50_us": ours}), ("touch", "update 1 KB", "sqlite", {"p50_us": 30.0})
    )
    judged = verdict(found, "update(fn), 1 KB: faster than SQLite")
    assert judged.met is met
    assert judged.cells()[-1] == ("reached" if met else "MISSED")


def test_a_ceiling_is_judged_from_the_other_side():
    found = results(("hotkey", "8 processes", "shardstore", {"p99_share": 3.2, "fairness": 0.71}))
    assert verdict(found, "8 processes, one key: p99").met is False
    assert verdict(found, "8 processes, one key: fewest").met is True


def test_what_was_not_measured_is_neither_reached_nor_missed():
    judged = goals.evaluate(results())
    assert {v.met for v in judged} == {None}
    assert {v.cells()[-1] for v in judged} == {"not measured"}


@pytest.mark.parametrize(("disturbed", "reached"), [(1_090.0, 0.0), (1_900.0, 0.9), (4_000.0, 3.0)])
def test_the_bystander_may_lose_ten_per_cent_or_one_millisecond(disturbed, reached):
    found = results(("fanout", "192 children", "shardstore", {"alone_p99_us": 1_000.0, "disturbed_p99_us": disturbed}))
    judged = verdict(found, "fan-out 192")
    assert judged.reached == pytest.approx(reached)
    assert judged.met is (reached <= 1)


def test_each_changed_session_is_charged_its_share_of_the_difference():
    many = "100,000 sessions"
    found = results(("list", f"{many}, 0 changed", "shardstore", {"p50_us": 1_000.0}),
                    ("list", f"{many}, 100 changed", "shardstore", {"p50_us": 6_000.0}))  # fmt: skip
    assert verdict(found, f"list, {many}, 100 changed").reached == pytest.approx(50)


def test_a_store_that_lost_updates_is_marked_with_their_number_before_its_speed():
    """Its speed is not a result."""
    losing = {"ops_s": 9_000.0, "p99_us": 10.0, "fairness": 1.0, "lost": 1_234.0}
    text = report.text(results(("hotkey", "8 processes", "strands", losing)))
    assert "LOST 1,234 updates; 9,000/s" in text


def test_the_page_keeps_what_people_wrote_around_the_tables(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Title\n\nBefore.\n\n{report.BEGIN}\nold numbers\n{report.END}\n\nAfter.\n")
    for _ in range(2):
        report.write_page(results(("touch", "update 1 KB", "sqlite", {"p50_us": 30.0, "p99_us": 60.0})), page)
    text = page.read_text()
    assert text.startswith("# Title\n\nBefore.\n")
    assert text.endswith("\n\nAfter.\n")
    assert "old numbers" not in text
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert "| update 1 KB | 30.0 µs / 60.0 µs |" in text


def row_of(table: str, name: str, durability: str) -> list[str]:
    """Return the cells of one row of the README's table, the two names left out."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} | {durability} |")]
    return [cell.strip() for cell in line.split("|")[3:-1]]


def test_the_readme_names_the_durability_of_each_row_and_starts_with_the_default():
    lines = report.summary(results()).splitlines()
    assert lines[0].startswith("|  | durability | shardstore |")
    durabilities = [line.split("|")[2].strip() for line in lines[2:]]
    assert set(durabilities) == {"commit", "relaxed", "any"}
    assert durabilities[0] == "commit"


@pytest.mark.parametrize(("ours", "theirs"), [(10.0, 20.0), (20.0, 10.0)])
def test_the_readme_bolds_the_store_that_wins_and_no_other(ours, theirs):
    """Less time wins in one row, more operations a second in the other."""
    table = report.summary(
        results(
            ("durable", "1 process", "shardstore-commit", {"p50_us": ours}),
            ("durable", "1 process", "sqlite-full", {"p50_us": theirs}),
            ("hotkey", "8 processes", "shardstore", {"ops_s": ours}),
            ("hotkey", "8 processes", "sqlite", {"ops_s": theirs}),
        )
    )
    timed = row_of(table, "change one field, 1 KB session", "commit")
    counted = row_of(table, "8 processes, all on one session", "relaxed")
    assert [cell.startswith("**") for cell in timed] == [ours < theirs, theirs < ours, *[False] * 4]
    assert [cell.startswith("**") for cell in counted] == [ours > theirs, theirs > ours, *[False] * 4]


def test_a_row_takes_each_store_at_its_own_durability():
    """A relaxed time never stands in a row that says commit."""
    table = report.summary(results(("durable", "1 process", "shardstore", {"p50_us": 1.0})))
    assert row_of(table, "change one field, 1 KB session", "commit") == [""] * 6


def test_the_readme_says_what_the_durabilities_and_the_bold_figures_mean(tmp_path):
    readme = tmp_path / "README.md"
    report.write_readme(results(), readme)
    assert report.SUMMARY_LEGEND in readme.read_text()


@pytest.mark.parametrize(
    ("was", "now", "wanted"),
    [
        ([10, 11, 12], [20, 21, 22], "slower"),
        ([20, 21], [10, 11], "faster"),
        ([10, 30], [20, 40], ""),
        ([10], [10], ""),
    ],
)
def test_two_results_differ_only_when_no_rounds_overlap(was, now, wanted):
    """Less than that is what two runs of one commit do."""
    assert compare.judge(was, now, more_is_better=False) == wanted


def test_a_comparison_has_a_line_for_each_place_that_both_have():
    before = results(
        ("touch", "update 1 KB", "shardstore", {"p50_us": 20.0}), ("get", "1 KB", "shardstore", {"p50_us": 1.0})
    )
    after = results(("touch", "update 1 KB", "shardstore", {"p50_us": 10.0}))
    lines = compare.text(before, after).splitlines()
    assert len(lines) == 2
    assert "0.50x" in lines[1]
    assert "faster" in lines[1]


def test_each_table_names_the_durability_of_its_columns():
    """One level is named once; with several, each column is named with its own."""
    alike = results(*[("touch", "update 1 KB", store, {"p50_us": 1.0}) for store in ("shardstore", "sqlite")])
    assert report.grids(alike)[0].about.endswith(" Durability: relaxed.")
    mixed = results(*[("cold", "get", store, {"p50_us": 1.0}) for store in ("shardstore", "sqlite-full", "bare query")])
    assert report.grids(mixed)[0].about.endswith(" Durability: relaxed for shardstore; commit for SQLite WAL FULL.")
