"use strict";
/* Follows the tail of the fleet by its cursor: over a restart of the server, and over a reload of the page. */
(() => {
  const table = document.getElementById("tail"), said = document.getElementById("tail-said"), live = document.getElementById("live");
  const body = table.tBodies[0], { api, tasks, filter } = table.dataset;
  const MOST = 1000, AT_MOST = 30000, kept = `tail ${filter}`;
  const LOOKS = { SUCCESS: "good", FAILURE: "bad", REJECTED: "bad", REVOKED: "warn", RETRY: "warn", STARTED: "busy", error: "bad", warning: "warn" };
  const make = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text, ...more });
  /* What no screen shows, or what reorders it, is written out. */
  const plain = (text) => String(text ?? "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu, (one) => `\\u{${one.codePointAt(0).toString(16)}}`);
  /* Below the pages of tasks, as incidents/address.py has it. */
  const addressed = (id) => (/(^|\/)\.{0,2}(\/|$)/.test(id) ? "?called=" : "") + encodeURIComponent(id);
  let cursor = "", wait = 1000, paused = false, waiting = [], seen = 0;
  try { cursor = sessionStorage.getItem(kept) || ""; } catch { /* kept nowhere then */ }

  const status = make("span", ""), pause = make("button", "pause", { type: "button" });
  pause.addEventListener("click", () => { paused = !paused; if (!paused) show(); tell(); });
  live.replaceChildren(status, " ", pause);
  function tell(trouble = "") {
    status.textContent = trouble ? `${trouble} ·` : paused ? "paused ·" : "live ·";
    pause.textContent = paused ? "go on" : "pause";
    live.classList.toggle("is-old", trouble !== "");
    said.textContent = trouble ? "" : seen ? "" : "Waiting for what comes.";
  }
  function row(line) {
    const at = String(line.event_time ?? line.timestamp ?? "");
    const what = line.event?.startsWith("task-") ? line.event.slice(5) : line.event;
    const look = { "task-succeeded": "good", "task-failed": "bad", "task-rejected": "bad", "task-revoked": "warn", "task-retried": "warn", "task-started": "busy" }[line.event] || LOOKS[line.level] || "quiet";
    /* What tells of no task is named by the worker that it tells of, as on a terminal. */
    const name = line.task_name || (line.task_id ? "" : line.worker || line.instance) || "–";
    const cells = [make("time", plain(at.slice(11, 23)), { dateTime: at }), make("span", plain(what), { className: look }), make("span", plain(name)), make("span", plain(line.worker)), "", make("div", plain(line.exception ?? line.reason), { className: "cut" })];
    if (line.task_id) cells[4] = make("a", plain(line.task_id).slice(0, 8), { href: tasks + addressed(line.task_id), className: "id" });
    const found = document.createElement("tr");
    cells.forEach((cell, number) => {
      const one = document.createElement(number === 2 ? "th" : "td");
      if (number === 2) one.scope = "row";
      one.className = ["t", "t", "", "w2 t", "t", "w2 rest"][number];
      one.append(cell);
      found.append(one);
    });
    return found;
  }
  function gap(one) {
    const found = document.createElement("tr"), cell = make("td", plain(`may lack ${one.what}`), { colSpan: 6, className: "warn" });
    found.append(cell);
    return found;
  }
  /* Rows that are being read do not move: what comes then waits, and is counted. */
  const isRead = () => paused || scrollY > 150 || body.contains(document.activeElement) || !getSelection().isCollapsed;
  function show() {
    table.hidden = !waiting.length && !body.rows.length;
    for (const row of waiting) row.classList.add("is-new");
    setTimeout((rows) => rows.forEach((row) => row.classList.remove("is-new")), 2500, waiting);
    body.prepend(...waiting.reverse());
    waiting = [];
    while (body.rows.length > MOST) body.lastChild.remove();
    arrived();
  }
  function arrived() {
    let box = document.querySelector(".arrived");
    if (!waiting.length) { box?.remove(); return; }
    if (!box) {
      box = make("p", "", { className: "arrived" });
      box.setAttribute("role", "status");
      box.append(make("button", "", { type: "button", onclick: show }));
      table.before(box);
    }
    box.firstChild.textContent = `${waiting.length.toLocaleString("en")} new`;
  }
  async function follow() {
    for (;;) {
      try {
        const query = new URLSearchParams(filter ? { filter } : {});
        if (cursor) query.set("cursor", cursor);
        const reply = await fetch(`${api}?${query}`, { cache: "no-store", signal: AbortSignal.timeout(40000) });
        if (reply.status === 400 && cursor) { cursor = ""; continue; }
        const found = await reply.json();
        if (!reply.ok) throw new Error(found.error || `the server says ${reply.status}`);
        cursor = found.cursor;
        try { sessionStorage.setItem(kept, cursor); } catch { /* until the page is left */ }
        waiting.push(...found.gaps.map(gap), ...found.lines.map(row));
        seen += found.lines.length + found.gaps.length;
        if (waiting.length > MOST) waiting = waiting.slice(-MOST);
        if (isRead()) arrived(); else if (waiting.length) show();
        tell();
        wait = 1000;
      } catch (error) {
        tell(error.name === "TypeError" ? "no answer; asking again" : error.name === "TimeoutError" ? "no answer in time; asking again" : plain(error.message));
        await new Promise((done) => setTimeout(done, wait * (0.8 + Math.random() / 2)));
        wait = Math.min(AT_MOST, wait * 1.6);
      }
    }
  }
  tell();
  follow();
})();
