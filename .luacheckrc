-- For the scripts in ha_monitor/store/lua. `make lint` also looks at what one file uses of another: tests/lua_lint.py.
std = "lua51"
read_globals = { "redis", "cmsgpack", "cjson", "struct", "keys", "options", "families" }
max_line_length = 120
codes = true
color = false
ignore = {
  "311", -- a value that is never used: locals are initialised
  "581", -- not (x < y): is not x >= y where x may be NaN
}
