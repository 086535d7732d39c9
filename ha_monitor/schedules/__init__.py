"""Schedules of celery beat: when each is due, which run belongs to which due time, and what that says of the schedule.

Nothing here asks, reads or writes anything: definitions, runs and the time are passed in. The package is below the
configuration and the store, so that these can check and store its values.

- `model`: the values.
- `confs.definitions_of(answers: Mapping[str, object]) -> list[Definition]`: from the answers of one application's
  workers to `conf`, by nodename.
- `redbeat.definitions_of(hashes: Mapping[str, Mapping[str, str]], zone) -> list[Definition]`: from what RedBeat keeps.
- `arguments.arguments_of_event(args, kwargs) -> str | None`: for `Run.arguments`.
- `toml.definition_of(name, …) -> Definition`, `toml.written(definitions) -> str`: the configuration of this program.
- `sources.merged(*sources) -> list[Definition]`: one per name, from the best source.
- `timetable.timetable_of(text, zone) -> Timetable`: `next_after(at)`, `period(at)`; raises `ValueError` that says what
  was expected.
- `judge.judge(definitions, histories: Mapping[str, History], runs: Mapping[str, Runs], evidence, last_known) ->
  Judged`: the runs by task name; the histories by schedule name, to be kept and passed in again; what was last known
  of the schedules whose runs were not read.
"""
