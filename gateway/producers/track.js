// track.js: reports what a visitor does on a page to Leadstream (docs/track-js.md).
//
// It must never break the page: everything that the browser calls runs inside `safe`. It needs no other library and runs
// no text as code. Leadstream serves it as `minified.py` shortens it, which asks for a plain style: a comment has a line
// of its own, every statement ends with a semicolon, no template strings, no labels, nothing newer than ES2018.
(() => {
  const script = document.currentScript || document.querySelector("script[data-key]");
  // A page that loads the script twice reports once.
  if (!script || (window.leadstream && window.leadstream.ready)) return;
  const option = (key) => script.getAttribute("data-" + key) || "";
  const clock = () => Date.now();
  const storage = option("storage");
  const required = option("consent");
  const loud = /[?&#]ls_debug/.test(location.href);
  const collector = (option("endpoint") || script.src.replace(/[^/]+\/?([?#].*)?$/, "v1/events")) + (option("key") && "?write_key=" + encodeURIComponent(option("key")));
  const VISITOR = "leadstream-visitor";
  const CONSENT = "leadstream-consent";
  const QUEUED = "leadstream-event-";
  const IDLE = 18e5;

  const safe = (work) => (...values) => {
    try {
      return work(...values);
    } catch (problem) {
      loud && console.warn(problem);
    }
  };
  const listen = (names, work, node) => names.split(" ").forEach((key) => node.addEventListener(key, safe(work), true));
  const line = (content, most) => ("" + (content || "")).replace(/\s+/g, " ").trim().slice(0, most || 128) || undefined;
  // An address as the door reads it, without what opens an account.
  const address = (target) => line(target.replace(/([?&#][^=&#]*(token|passw|secret)[^=&#]*=)[^&#]*/gi, "$1"), 2048);
  const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => (byte + 256).toString(16).slice(1)).join("");

  // A first-party cookie, else localStorage, else this page's memory. Each may be forbidden, and then throws.
  const memory = {};
  const local = safe((verb, key, content) => storage !== "none" && (verb ? localStorage[verb](key, content) : Object.keys(localStorage)));
  const crumb = safe((key) => (!storage || storage === "cookie") && (document.cookie.match("(^|; )" + key + "=([^;]*)") || [])[2]);
  const load = (key) => crumb(key) || local("getItem", key) || memory[key] || "";
  const save = (key, content) => {
    memory[key] = "";
    safe(() => {
      if (!storage || storage === "cookie") document.cookie = key + "=" + content + ";path=/;samesite=lax;max-age=" + (content ? 31536e3 : 0) + (option("domain") && ";domain=" + option("domain"));
    })();
    if (!content) local("removeItem", key);
    else if (!crumb(key)) local("setItem", key, content);
    if (!load(key)) memory[key] = content;
  };
  // Another tab may give or withdraw consent, so it is read each time.
  const allowed = () => !(option("dnt") && (navigator.globalPrivacyControl || navigator.doNotTrack > 0)) && (required ? load(CONSENT) === "yes" : load(CONSENT) !== "no");
  const visitor = () => {
    if (allowed()) {
      if (!/^[\w-]{8,64}$/.test(load(VISITOR))) save(VISITOR, newId());
      return load(VISITOR);
    }
  };

  // The queue. Each event has a key of its own in localStorage, so that tabs never overwrite each other's. It stays until
  // Leadstream has answered. A beacon has no answer, so the next page sends its events again: an event_id counts once.
  const queue = new Map();
  let busy = 0;
  let failures = 0;
  let timer;
  const drop = (key) => {
    queue.delete(key);
    local("removeItem", key);
  };
  const stored = () => (local() || []).filter((key) => key.startsWith(QUEUED)).sort();
  // What other pages left. Leadstream recognises repetitions for seven days, so older ones are dropped.
  const adopt = () => {
    busy = failures = 0;
    if (allowed()) stored().forEach(safe((key) => {
      if (clock() - key.split("-")[2] > 5e8) drop(key);
      else if (!queue.has(key)) queue.set(key, JSON.parse(local("getItem", key)));
    }));
    later(300);
  };
  const later = (wait) => {
    clearTimeout(timer);
    timer = setTimeout(safe(flush), wait);
  };
  const failed = (seconds) => {
    busy = 0;
    failures++;
    later(1e3 * (+seconds || Math.min(300, 2 ** failures) * (0.5 + Math.random())));
  };
  const flush = (leaving) => {
    if (!allowed()) queue.clear();
    const batch = [...queue.keys()].slice(0, 10);
    if (!batch[0] || (!leaving && clock() - busy < 3e4)) return;
    const events = batch.map((key) => queue.get(key));
    // Routers set the title after the address.
    if (events.includes(viewed)) viewed.title = viewed.title || line(document.title, 256);
    const body = JSON.stringify({ sent_at: new Date(), events });
    if (leaving && navigator.sendBeacon && navigator.sendBeacon(collector, body)) {
      batch.forEach((key) => queue.delete(key));
      return flush(leaving);
    }
    // A text needs no preflight. Browsers refuse a long body that outlives the page.
    busy = clock();
    fetch(collector, { method: "POST", keepalive: body.length < 3e4, body }).then((answer) => {
      loud && answer.json().then((result) => console.log(answer.status, events, result));
      if (/40[138]|429|5../.test(answer.status)) return failed(answer.headers.get("retry-after"));
      busy = failures = 0;
      batch.forEach(drop);
      flush();
    }).catch(() => failed());
  };

  // By lead id: what the site's own server has signed.
  const signatures = {};
  let here;
  let url;
  let referrer = document.referrer;
  let viewed;
  let last = 0;
  let input = clock();
  const emit = (type, fields) => {
    const visitor_id = visitor();
    if (!visitor_id) return;
    last = clock();
    const signature = fields && fields.lead_id && signatures[fields.lead_id];
    const event = { ...fields, ...(signature && { lead_signature: signature }), type, event_id: newId(), occurred_at: new Date(), visitor_id, tracking_consent: load(CONSENT) === "yes" || undefined, context: { url: address(location.href), referrer: address(referrer) } };
    const key = QUEUED + last + "-" + event.event_id;
    queue.set(key, event);
    local("setItem", key, JSON.stringify(event));
    if (queue.size > 200) drop(queue.keys().next().value);
    if (queue.size > 9) flush();
    else if (!failures) later(300);
    return event;
  };

  // Pages. A new fragment is no new page, unless the site's router lives in it.
  const place = () => location.pathname + location.search + (option("spa") === "hash" ? location.hash : "");
  const page = () => {
    if (here) referrer = url;
    url = location.href;
    here = allowed() && place();
    viewed = emit("page_viewed", { url: address(url) });
  };
  const check = () => {
    if (self === top && place() !== here) page();
  };

  // How long the visitor stays: while the page is visible and somebody is there. A page ends with a heartbeat, too:
  // `session_ended` would split the visit at its next page.
  const beat = () => {
    if (here && clock() - last > 999) emit("session_heartbeat");
  };
  const wake = () => {
    input = clock();
    // After the visit has ended, a visitor who returns sees the page in a new one.
    if (here && input - last > IDLE) page();
  };

  // Clicks, also inside of shadow roots. What the click did is an event of its own.
  const near = (event, selector) => event.composedPath().find((node) => node.matches && node.matches(selector));
  const clicked = (event) => {
    const element = near(event, "a[href],area[href],button,summary,[role=button],[type=submit],[type=button],[data-ls-click]");
    if (!element || !event.isTrusted || event.button > 1 || near(event, "[data-ls-ignore]")) return;
    const link = element.pathname && element.protocol !== "javascript:" ? element : undefined;
    const fields = { text: line(element.getAttribute("data-ls-click") || element.innerText || element.value || element.getAttribute("aria-label") || element.title || element.alt), url: link && address(link.href) };
    emit(option("outbound") && link && link.host !== location.host ? "link_clicked" : "element_clicked", { ...fields, element_id: line(element.id) });
    if (link && (link.hasAttribute("download") || /\.(pdf|docx?|xlsx?|pptx?|csv|od[tsp]|epub|zip|rar|7z|gz|dmg|exe|msi|apk|mp[34])$/i.test(link.pathname))) emit("content_downloaded", { url: fields.url, title: fields.text });
  };

  // Forms: only the fields that the site names, and never secrets.
  const submitted = (event) => {
    const form = event.target;
    if (near(event, "[data-ls-ignore]")) return;
    const fields = {};
    [...form.elements].forEach((control) => {
      const { name, type, value } = control;
      const marked = control.getAttribute("data-ls-field");
      const profile = (marked || ((" " + option("form-fields").replace(/,/g, " ") + " ").includes(" " + name + " ") || marked === "" ? name : "")).toLowerCase().replace(/\W+/g, "_").replace(/^[^a-z]+/, "").slice(0, 64);
      if (!profile || /passw|hidden|file|card|cvc|cvv|iban|ssn|secret|token|cc-|one-time/i.test([name, type, profile, control.id, control.autocomplete]) || (/checkbox|radio/.test(type) && !control.checked) || (type !== "tel" && /^(\d[ -]?){13,19}$/.test(value))) return;
      fields[profile] = ((fields[profile] ? fields[profile] + ", " : "") + value).slice(0, 999);
    });
    emit("form_submitted", { form_id: line(form.getAttribute("id")), form_name: line(form.getAttribute("name")), fields });
  };

  const commands = {
    page,
    visitor,
    track: (name, properties) => {
      if (name.startsWith("custom:")) emit("custom", { name: name.slice(7), properties });
      else emit(name, properties);
    },
    identify: (lead_id, fields, signature) => {
      if (lead_id && signature) signatures[lead_id] = "" + signature;
      if (lead_id) emit("lead_identified", { lead_id: "" + lead_id });
      if (fields) emit("profile_updated", { lead_id: lead_id ? "" + lead_id : undefined, fields });
    },
    consent: (given) => {
      if (given) {
        save(CONSENT, "yes");
        return check();
      }
      // The refusal itself stays; where consent is required, not even that.
      stored().forEach(drop);
      queue.clear();
      save(VISITOR, "");
      save(CONSENT, required ? "" : "no");
      here = "";
    },
  };

  const start = () => {
    const early = window.leadstream;
    const call = (window.leadstream = safe((verb, ...values) => (commands[verb] ? commands[verb](...values) : commands.track(verb, ...values))));
    call.ready = 1;
    check();
    adopt();
    ((early && early.q) || []).forEach((values) => call(...values));
    listen("click auxclick", clicked, document);
    listen("submit", submitted, document);
    listen("pointerdown keydown scroll", wake, window);
    listen("visibilitychange", () => {
      if (!document.hidden) return wake();
      beat();
      flush();
    }, document);
    listen("pagehide", () => {
      beat();
      flush(1);
    }, window);
    listen("pageshow", (event) => {
      if (!event.persisted) return;
      adopt();
      if (self === top) page();
    }, window);
    listen("online", adopt, window);
    const seconds = option("heartbeat") || 30;
    if (seconds > 0) setInterval(safe(() => document.hidden || clock() - input > IDLE || beat()), seconds * 1e3);
    if (option("spa") === "off") return;
    listen("popstate hashchange", check, window);
    ["pushState", "replaceState"].forEach((key) => {
      const original = history[key];
      history[key] = function () {
        const result = original.apply(this, arguments);
        safe(check)();
        return result;
      };
    });
  };
  // A page that is only prepared has no visitor yet.
  if (document.prerendering) listen("prerenderingchange", start, document);
  else safe(start)();
})();
