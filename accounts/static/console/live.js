// The page Live: shows what the server streams about one cluster. Everything that clients have sent is inserted as text.
"use strict";

const MAX_EVENTS = 500;
const RENEW_MILLISECONDS = 10_000; // a lease lasts 30 seconds
const TYPING_MILLISECONDS = 300;
const HIDDEN_MILLISECONDS = 60_000;
const UNUSED_MILLISECONDS = 30 * 60_000;
const ANNOUNCE_MILLISECONDS = 10_000;
const RATE_SECONDS = 3;
const MAX_PER_SECOND = 50;
const MAX_WAIT_SECONDS = 30;

const NAMES = {
  connect: "Connect",
  refusal: "Refused",
  subscription: "Subscribe",
  message: "Message",
  publish: "Publish",
  call: "API call",
  close: "Close",
};
// By the code of a client.
const CLOSES = {
  1000: "Closed",
  1001: "Going away",
  1005: "Closed",
};
// By the reason of the server, whose codes depend on the protocol.
const ENDS = {
  not_utf8: "Not UTF-8",
  too_big: "Message too large",
  restarting: "Asked to reconnect",
  disconnected: "Asked to reconnect",
  bad_key: "API key not valid",
  bad_origin: "Not allowed",
  cluster_off: "Not allowed",
  account_suspended: "Not allowed",
  quota_used_up: "Quota used up",
  too_many_members: "Channel has too many members",
  bad_jwt: "JWT not valid",
  bad_sign_in: "Sign-in not valid",
  not_authorized: "No sign-in or private channel in time",
  terminated: "Connections of the user closed by a server",
  too_slow: "Client reads too slowly",
  too_fast: "Too many messages",
};
const DROPPED = {
  not_allowed: "the key does not allow messages of clients",
  forged: "clients cannot send system events",
  too_often: "more messages a second than allowed",
  not_subscribed: "the client is not subscribed to the channel",
  unreadable: "the message is null, or not valid JSON or base64",
  used_up: "the quota of messages a day is used up",
  bad_event: "events of clients need a private or presence channel, and a short name",
};

const find = (id) => document.getElementById(id);
const root = find("live");
if (root) start();

function start() {
  const list = find("events");
  const rows = list.querySelector("tbody");
  const number = new Intl.NumberFormat("en").format;

  let socket = null;
  let isWatching = false; // whether the server has begun to watch for this connection
  let attempts = 0;
  let retry = 0;
  let stopped = ""; // why the stream does not come back by itself
  let mayReturn = true; // whether the server would accept this page again
  let connectedOnce = false;
  let since = 0; // when the last connection was lost
  let paused = false;
  let waiting = []; // events that arrived while the page is paused, oldest first
  let dropped = false; // whether some of them were dropped
  let unseen = 0; // events above what the reader looks at
  let connections = null;
  let frames = []; // the numbers of the last seconds
  let unannounced = 0;
  let usedAt = Date.now();
  let hiddenTimer = 0;

  // The connection

  function connect() {
    clearTimeout(retry);
    retry = 0;
    const url = new URL(root.dataset.stream, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const opened = (socket = new WebSocket(url));
    opened.onopen = sendTerms;
    opened.onmessage = ({ data }) => {
      if (opened === socket) receive(JSON.parse(data));
    };
    opened.onclose = () => {
      if (opened !== socket) return;
      socket = null;
      isWatching = false;
      since ||= Date.now();
      frames = [];
      connections = null;
      if (!stopped && !document.hidden) reconnectLater();
      showState();
    };
  }

  function reconnectLater() {
    const seconds = Math.min(2 ** attempts++, MAX_WAIT_SECONDS);
    retry = setTimeout(connect, seconds * 1000 * (0.5 + Math.random() / 2));
  }

  function disconnect(reason = "") {
    stopped = reason;
    clearTimeout(retry);
    retry = 0;
    const closed = socket;
    socket = null;
    isWatching = false;
    if (closed) {
      since ||= Date.now();
      closed.close();
    }
    frames = [];
    connections = null;
    showState();
  }

  // The first frame says that the server watches: what happened before it is missing.
  function beginToWatch() {
    isWatching = true;
    attempts = 0;
    if (connectedOnce && since) addGap();
    connectedOnce = true;
    since = 0;
  }

  function sendTerms() {
    if (socket?.readyState !== WebSocket.OPEN) return;
    const kinds = [...root.querySelectorAll("[name=kind]:checked")].map((box) => box.value);
    socket.send(JSON.stringify({ kinds, filter: find("filter").value, content: find("show-content").checked }));
  }

  function receive(frame) {
    if (frame.end) {
      mayReturn = false;
      find("again").textContent = "Reload the page";
      disconnect(frame.end);
      return;
    }
    if (!isWatching) beginToWatch();
    connections = frame.connections ?? connections;
    if (frame.channels) showChannels(frame.channels, frame.channel_count);
    const others = frame.events.filter(({ kind }) => kind !== "refusal").length;
    unannounced += frame.events.length - others + frame.unshown_refusals;
    frames.push({ at: Date.now(), all: frame.all, matched: frame.matched, shown: others, unshown: frame.unshown_refusals });
    if (frame.events.length) {
      if (paused) keep(frame.events);
      else draw(frame.events);
    }
    showState();
  }

  // The state

  function showState() {
    frames = frames.filter(({ at }) => at > Date.now() - RATE_SECONDS * 1000);
    const sum = (name) => frames.reduce((total, frame) => total + frame[name], 0);
    const [tone, text] = state();
    setState(tone, text);
    const figures = [];
    if (socket && connections !== null) figures.push(`${number(connections)} connection${connections === 1 ? "" : "s"}`);
    if (socket && connectedOnce) {
      const rate = Math.round(sum("all") / RATE_SECONDS);
      figures.push(`${number(rate)} event${rate === 1 ? "" : "s"} a second`);
    }
    find("figures").textContent = figures.map((figure) => ` · ${figure}`).join("");
    find("again").hidden = !stopped;
    find("pause").textContent = paused ? "Continue" : "Pause";
    const parts = [];
    if (sum("matched") > MAX_PER_SECOND * RATE_SECONDS && sum("matched") > 1.1 * sum("shown")) {
      const share = Math.max(2, Math.round(sum("matched") / Math.max(sum("shown"), 1)));
      parts.push(`More than 50 events a second: the page shows about 1 in ${number(share)}. Refusals are always shown.`);
    }
    if (sum("unshown")) parts.push(`And ${number(sum("unshown"))} more refusals.`);
    find("notice").textContent = parts.join(" ");
    find("notice").hidden = !parts.length;
  }

  function state() {
    if (stopped) return ["wait", stopped];
    if (!isWatching) {
      return ["wait", since ? `Reconnecting · events since ${clock(since).slice(0, 8)} are missing` : "Connecting"];
    }
    if (!paused) return ["good", "Connected"];
    const count = `${number(waiting.length)} event${waiting.length === 1 ? " is" : "s are"} waiting`;
    return ["wait", dropped ? `Paused · ${count}, older ones were dropped` : `Paused · ${count}`];
  }

  // Only changes are announced to screen readers, and the number of waiting events is no change.
  function setState(tone, text) {
    const shown = find("state");
    if (shown.textContent === text) return;
    shown.setAttribute("aria-live", paused && shown.textContent.startsWith("Paused") ? "off" : "polite");
    shown.className = `state ${tone}`;
    shown.textContent = text;
  }

  // The events

  function keep(events) {
    waiting.push(...events);
    if (waiting.length > MAX_EVENTS) {
      waiting = waiting.slice(-MAX_EVENTS);
      dropped = true;
    }
  }

  function draw(events) {
    add(events.map(rowOf));
  }

  function addGap() {
    const row = document.createElement("tr");
    row.className = "gap";
    row.setAttribute("role", "row");
    const line = cell("Event", `Events between ${clock(since).slice(0, 8)} and ${clock(Date.now()).slice(0, 8)} are missing`);
    line.colSpan = 4;
    row.append(line);
    add([row]);
  }

  // Adds rows, oldest first, above all others. What the reader looks at stays where it is.
  function add(added) {
    find("waiting").hidden = true;
    const isScrolled = list.scrollTop > 0;
    const height = list.scrollHeight;
    for (const row of added) rows.prepend(row);
    if (isScrolled) {
      list.scrollTop += list.scrollHeight - height;
      unseen += added.length;
    }
    while (rows.children.length > MAX_EVENTS) rows.lastElementChild.remove();
    showNewer();
  }

  function showNewer() {
    if (list.scrollTop === 0) unseen = 0;
    find("newer").hidden = !unseen;
    find("newer").firstElementChild.textContent = `${number(unseen)} new event${unseen === 1 ? "" : "s"}`;
  }

  function rowOf(event) {
    const row = document.createElement("tr");
    row.setAttribute("role", "row");
    row.append(cell("Time (UTC)", clock(event.at * 1000)), eventCell(event), channelCell(event), detailsCell(event));
    return row;
  }

  function cell(label, ...content) {
    const made = document.createElement("td");
    made.setAttribute("role", "cell");
    made.dataset.label = label;
    made.append(...content);
    return made;
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function eventCell({ kind, left }) {
    const name = left ? "Unsubscribe" : (NAMES[kind] ?? kind);
    return cell("Event", kind === "refusal" ? element("span", "bad", name) : name);
  }

  function channelCell({ channel, key }) {
    const made = cell("Channel and key");
    if (channel) {
      const button = element("button", "link", channel);
      button.type = "button";
      button.title = "Filter for this channel";
      button.addEventListener("click", () => {
        find("filter").value = channel;
        sendTerms();
      });
      made.append(button);
    } else {
      made.append("–");
    }
    if (key) made.append(element("span", "sub", key));
    return made;
  }

  function detailsCell(event) {
    const parts = [];
    const user = event.user ? `user ${event.user}` : "";
    switch (event.kind) {
      case "connect":
        parts.push(user || "anonymous", event.address, event.origin);
        break;
      case "refusal":
        parts.push(user, event.address);
        break;
      case "subscription":
        parts.push(event.member && `joined presence as ${event.member}`, user || (!event.member && "anonymous"));
        break;
      case "message":
        parts.push(user, bytes(event.bytes), event.dropped && `not distributed: ${DROPPED[event.dropped] ?? event.dropped}`);
        break;
      case "publish":
        parts.push(bytes(event.bytes) + to(event.receivers));
        break;
      case "call":
        parts.push(event.request, String(event.status), `${Math.round(event.milliseconds)} ms`);
        break;
      case "close":
        parts.push(event.code ? `${event.code} ${ENDS[event.reason] ?? CLOSES[event.code] ?? ""}`.trim() : "Connection lost");
        parts.push(`after ${duration(event.seconds)}`, user);
    }
    const made = cell("Details");
    if (event.kind === "refusal") made.append(element("span", "bad", String(event.code)), ` ${event.sentence} · `);
    made.append(parts.filter(Boolean).join(" · "));
    if (event.encrypted) made.append(" · encrypted");
    else if (event.binary) made.append(", binary");
    else if (event.content !== undefined) made.append(" · ", element("code", "", event.content));
    return made;
  }

  function bytes(count) {
    return `${number(count)} byte${count === 1 ? "" : "s"}`;
  }

  function to(receivers) {
    return receivers === undefined ? "" : ` to ${number(receivers)} connection${receivers === 1 ? "" : "s"}`;
  }

  function duration(seconds) {
    if (seconds < 60) return `${Math.round(seconds)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
    return `${number(Math.floor(minutes / 60))} h ${minutes % 60} min`;
  }

  function clock(milliseconds) {
    return new Date(milliseconds).toISOString().slice(11, 23);
  }

  function showChannels(channels, count) {
    const shown = find("channels");
    // A list that changes under the pointer is hard to click.
    if (shown.matches(":hover") || shown.contains(document.activeElement)) return;
    find("channel-count").textContent = number(count);
    shown.replaceChildren(
      ...channels.map(([path, size]) => {
        const item = document.createElement("li");
        const link = element("a", "", path);
        link.href = `${shown.dataset.url}?channel=${encodeURIComponent(path)}`;
        const figure = element("span", "num", "");
        figure.append(element("span", "hidden", "connections: "), number(size));
        item.append(link, figure);
        return item;
      }),
    );
  }

  // What the reader does

  let typing = 0;
  find("filter").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(sendTerms, TYPING_MILLISECONDS);
  });
  for (const box of root.querySelectorAll("[type=checkbox]")) box.addEventListener("change", sendTerms);
  find("pause").addEventListener("click", () => {
    paused = !paused;
    const events = waiting;
    waiting = [];
    dropped = false;
    if (!paused && events.length) draw(events);
    showState();
  });
  find("clear").addEventListener("click", () => {
    rows.replaceChildren();
    find("waiting").hidden = false;
    showNewer();
  });
  find("again").addEventListener("click", () => {
    if (!mayReturn) {
      location.reload();
      return;
    }
    stopped = "";
    usedAt = Date.now();
    connect();
    showState();
  });
  list.addEventListener("scroll", showNewer);
  find("newer").firstElementChild.addEventListener("click", () => {
    list.scrollTop = 0;
    showNewer();
  });
  for (const kind of ["keydown", "pointerdown", "pointermove"]) {
    addEventListener(kind, () => (usedAt = Date.now()), { passive: true });
  }
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(disconnect, HIDDEN_MILLISECONDS);
    else if (!stopped && !socket && !retry) connect();
  });

  const send = find("send");
  send.addEventListener("submit", async (event) => {
    event.preventDefault();
    event.stopPropagation(); // the page stays, and so does its button
    const button = send.querySelector("button");
    button.disabled = true;
    try {
      const answer = await fetch(send.action, {
        method: "POST",
        body: new FormData(send),
        headers: { Accept: "application/json" },
        redirect: "error",
      });
      find("sent").textContent = answer.headers.get("content-type")?.startsWith("application/json")
        ? (await answer.json()).sentence
        : "The message was not sent. Reload the page and try again.";
    } catch {
      find("sent").textContent = "The message was not sent. Reload the page and try again.";
    } finally {
      button.disabled = false;
    }
  });

  const pick = find("pick");
  if (pick) {
    pick.querySelector("button").hidden = true;
    pick.querySelector("select").addEventListener("change", () => pick.requestSubmit());
  }

  setInterval(() => {
    if (socket && Date.now() - usedAt > UNUSED_MILLISECONDS) {
      disconnect("Stopped · this page was not used for 30 minutes");
      return;
    }
    sendTerms();
  }, RENEW_MILLISECONDS);
  setInterval(() => socket && showState(), 1000);
  setInterval(() => {
    if (unannounced) announce(`${number(unannounced)} refusal${unannounced === 1 ? "" : "s"}`);
    unannounced = 0;
  }, ANNOUNCE_MILLISECONDS);

  connect();
  showState();
}

// Tells screen readers about something that the page shows in another place.
function announce(text) {
  let region = find("announcements");
  if (!region) {
    region = document.createElement("p");
    region.id = "announcements";
    region.className = "hidden";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = text;
}
