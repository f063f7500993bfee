// The live feed: one line for each event that the server tells of. All text is set as text.
"use strict";
(() => {
  const live = document.getElementById("live");
  const feed = document.getElementById("feed");
  const state = document.getElementById("state");
  const KINDS = ["push.progress", "pushed", "pulled", "deleted", "restored", "collected", "quota"];
  const MOST = 200;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };

  const subject = (data) => {
    const image = [data.registry, data.image].filter(Boolean).join("/");
    return data.tag ? `${image}:${data.tag}` : data.digest ? `${image}@${String(data.digest).slice(7, 19)}` : image;
  };

  const show = (kind, event) => {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    const line = element("li", "fresh", "");
    const at = data.at ? new Date(data.at) : new Date();
    const time = element("time", "", at.toLocaleTimeString());
    time.title = at.toISOString();
    line.append(time, element("span", "badge", kind), element("span", "what", subject(data)),
      element("span", "muted small", data.actor || ""));
    feed.prepend(line);
    while (feed.children.length > MOST) feed.lastElementChild.remove();
    document.getElementById("quiet")?.remove();
  };

  const source = new EventSource(live.dataset.events);
  source.addEventListener("open", () => { live.classList.add("on"); state.textContent = "live"; });
  source.addEventListener("error", () => {
    live.classList.remove("on");
    state.textContent = source.readyState === EventSource.CLOSED ? "not live: reload the page" : "connecting again";
  });
  for (const kind of KINDS) source.addEventListener(kind, (event) => show(kind, event));
  window.addEventListener("pagehide", () => source.close());
})();
