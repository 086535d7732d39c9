"""Schedules of celery beat: what is due when, which run belongs to which due time, and what that says of the schedule.

Nothing here asks, reads or writes anything: definitions, runs and the time are passed in. It stands below the
configuration and the store, so that these can check and keep its values.

- `model`: the values.
- `confs.definitions_of(answers: Mapping[str, object]) -> list[Definition]`: from what workers of one application answer
  to `conf`, by nodename.
- `redbeat.definitions_of(hashes: Mapping[str, Mapping[str, str]], zone) -> list[Definition]`: from what RedBeat keeps.
- `arguments.arguments_told(args, kwargs) -> str | None`: for `Run.arguments`.
- `toml.definition_of(name, …) -> Definition`, `toml.written(definitions) -> str`: the configuration of this program.
- `sources.merged(*definitions) -> list[Definition]`: one of each name, the best source first.
- `timetable.timetable_of(text, zone) -> Timetable`: `next_after(at)`, `period(at)`; raises `ValueError` with what was
  expected.
- `judge.judge(definitions, histories: Mapping[str, History], runs: Mapping[str, Runs], look) -> Judged`: the runs by
  the name of the task; the histories by the name of the schedule, to be kept and passed in again.
"""
