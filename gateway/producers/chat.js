// chat.js: a chat on a web page, which asks what the published flow asks (docs/chat-widget.md).
//
// It lives in a shadow root, so the page's styles and its own do not meet, and it writes no HTML: what people and flows say
// is text. The style is that of track.js, which `minified.py` asks for.
(() => {
  const script = document.currentScript || document.querySelector("script[src*='chat.js']");
  if (!script || window.leadstreamChat) return;
  const option = (key) => script.getAttribute("data-" + key) || "";
  const api = option("endpoint") || script.src.replace(/[^/]+\/?([?#].*)?$/, "api/");
  const VISITOR = "leadstream-visitor";
  const SESSION = "leadstream-chat-session";
  const SAID = "leadstream-chat";
  const MOST_LINES = 60;
  const LONGEST = 2000;
  const RIGHT_TO_LEFT = /^(ar|fa|he|ur|ps|sd|ug|yi|ckb)\b/;
  const WORDS = {
    en: { open: "Open the chat", close: "Close the chat", chat: "Chat", write: "Write a message", send: "Send", done: "Done", name: "Name", email: "E-mail", phone: "Phone", reach: "Please give an e-mail address or a phone number.", again: "That did not arrive.", retry: "Try again", typing: "Writing…", you: "You", bot: "Chat", skip: "Not now" },
    de: { open: "Chat öffnen", close: "Chat schließen", chat: "Chat", write: "Nachricht schreiben", send: "Senden", done: "Fertig", name: "Name", email: "E-Mail", phone: "Telefon", reach: "Bitte geben Sie eine E-Mail-Adresse oder Telefonnummer an.", again: "Das ist nicht angekommen.", retry: "Noch einmal versuchen", typing: "Schreibt…", you: "Sie", bot: "Chat", skip: "Jetzt nicht" },
    es: { open: "Abrir el chat", close: "Cerrar el chat", chat: "Chat", write: "Escriba un mensaje", send: "Enviar", done: "Listo", name: "Nombre", email: "Correo electrónico", phone: "Teléfono", reach: "Indique un correo electrónico o un teléfono.", again: "No ha llegado.", retry: "Intentar de nuevo", typing: "Escribiendo…", you: "Usted", bot: "Chat", skip: "Ahora no" },
    fa: { open: "باز کردن گفتگو", close: "بستن گفتگو", chat: "گفتگو", write: "پیام بنویسید", send: "ارسال", done: "تمام", name: "نام", email: "ایمیل", phone: "تلفن", reach: "لطفاً ایمیل یا شمارهٔ تلفن را بنویسید.", again: "نرسید.", retry: "دوباره", typing: "در حال نوشتن…", you: "شما", bot: "گفتگو", skip: "فعلاً نه" },
    hi: { open: "चैट खोलें", close: "चैट बंद करें", chat: "चैट", write: "संदेश लिखें", send: "भेजें", done: "हो गया", name: "नाम", email: "ईमेल", phone: "फ़ोन", reach: "कृपया ईमेल या फ़ोन नंबर दें।", again: "यह नहीं पहुँचा।", retry: "फिर से", typing: "लिख रहा है…", you: "आप", bot: "चैट", skip: "अभी नहीं" },
  };
  const STYLE = [
    ":host{all:initial;position:fixed;z-index:2147483000;inset-block-end:16px;inset-inline-end:16px;color-scheme:light dark;--a:#0b5cad;--on:#fff;--b:#fff;--t:#1b1f24;--s:#eef1f5;--l:#7a828c}",
    ":host([data-side=start]){inset-inline-end:auto;inset-inline-start:16px}",
    "*{box-sizing:border-box;font:16px/1.45 system-ui,sans-serif,Noto Color Emoji}",
    "[hidden]{display:none!important}",
    "button{cursor:pointer;color:inherit;background:none;border:1px solid var(--l);border-radius:18px;padding:8px 14px;min-height:40px;text-align:start}",
    "button:hover{background:var(--s)}",
    ":focus-visible{outline:3px solid var(--a);outline-offset:2px}",
    ".launch,.main{background:var(--a);color:var(--on);border-color:transparent}",
    ".launch:hover,.main:hover{background:var(--a);filter:brightness(1.12)}",
    ".launch{width:56px;height:56px;border-radius:50%;padding:14px;box-shadow:0 3px 14px rgba(0,0,0,.3)}",
    ".launch svg{display:block;width:28px;height:28px;fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}",
    "section{display:flex;flex-direction:column;width:360px;max-width:calc(100vw - 32px);height:560px;max-height:calc(100vh - 32px);max-height:calc(100dvh - 32px);background:var(--b);color:var(--t);border-radius:14px;overflow:hidden;box-shadow:0 8px 40px rgba(0,0,0,.35)}",
    "header{display:flex;align-items:center;gap:8px;background:var(--a);color:var(--on);padding:6px 8px 6px 16px}",
    ":host([dir=rtl]) header{padding:6px 16px 6px 8px}",
    "h2{flex:1;margin:0;font-weight:600;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}",
    "header button{border:0;width:40px;padding:0;text-align:center;font-size:22px}",
    "header button:hover{background:rgba(127,127,127,.35)}",
    "header :focus-visible{outline-color:var(--on);outline-offset:-3px}",
    ".log{flex:1;overflow-y:auto;padding:14px;display:flex;flex-direction:column;gap:8px;overscroll-behavior:contain}",
    ".log p{margin:0;padding:9px 13px;border-radius:14px;max-width:85%;white-space:pre-wrap;overflow-wrap:anywhere;background:var(--s);align-self:flex-start}",
    ".log .you{background:var(--a);color:var(--on);align-self:flex-end}",
    ".seen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}",
    ".ask{padding:10px 14px 14px;display:flex;flex-direction:column;gap:8px;border-top:1px solid var(--s);max-height:60%;overflow-y:auto}",
    ".choices{display:flex;flex-wrap:wrap;gap:8px}",
    "[aria-pressed=true]{background:var(--a);color:var(--on);border-color:transparent}",
    "form{display:flex;gap:8px;flex-wrap:wrap;align-items:end;margin:0}",
    "label{flex:1 1 100%;font-size:14px}",
    "input{flex:1;min-width:0;width:100%;min-height:40px;padding:8px 12px;border:1px solid var(--l);border-radius:18px;background:var(--b);color:inherit}",
    ".bad{color:#b3261e;margin:0}",
    "@media(prefers-color-scheme:dark){:host(:not([data-theme=light])){--b:#1b1f24;--t:#eef1f5;--s:#2d333b;--l:#8b949e}:host(:not([data-theme=light])) .bad{color:#ffb4ab}}",
    ":host([data-theme=dark]){--b:#1b1f24;--t:#eef1f5;--s:#2d333b;--l:#8b949e}",
    ":host([data-theme=dark]) .bad{color:#ffb4ab}",
    "@media(max-width:480px){:host([data-open]){inset:0}section{width:100%;max-width:100%;height:100vh;height:100dvh;max-height:none;border-radius:0}}",
  ].join("");

  // Storage may be forbidden, and then throws: the chat goes on in memory.
  const kept = (store, key, content) => {
    try {
      if (content === undefined) return window[store].getItem(key);
      window[store].setItem(key, content);
    } catch (problem) {
      return null;
    }
  };
  const make = (tag, properties, children) => {
    const node = document.createElement(tag);
    Object.keys(properties || {}).forEach((key) => {
      if (key === "text") node.textContent = properties[key];
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), properties[key]);
      else if (properties[key] !== undefined) node.setAttribute(key, properties[key]);
    });
    (children || []).forEach((child) => child && node.append(child));
    return node;
  };
  const short = (content) => ("" + (content || "")).slice(0, LONGEST);

  // What was said in this tab, so that the next page of the site goes on with it.
  const remembered = () => {
    try {
      const content = JSON.parse(kept("sessionStorage", SAID) || "{}");
      return Array.isArray(content.lines) ? content : { lines: [] };
    } catch (problem) {
      return { lines: [] };
    }
  };
  const memory = remembered();
  const remember = () => kept("sessionStorage", SAID, JSON.stringify(memory));

  // The visitor of track.js and the person in the chat are one. Without its consent the chat has a session of its own.
  const visitor = () => {
    const tracker = window.leadstream;
    if (tracker && tracker.ready) return tracker("visitor") || "";
    const crumb = document.cookie.match("(^|; )" + VISITOR + "=([\\w-]{8,64})");
    return crumb ? crumb[2] : "";
  };
  const known = () => memory.session || visitor() || kept("localStorage", SESSION) || "";
  let session = known();
  let language = option("language") || memory.language || "";
  let flow;
  let order = [];
  let since = 0;

  const post = (path, content) => send(path, { method: "POST", body: JSON.stringify(content) });
  const send = (path, request) => {
    const mark = path.includes("?") ? "&" : "?";
    const key = option("key") ? mark + "write_key=" + encodeURIComponent(option("key")) : "";
    // A text needs no preflight.
    return fetch(api + path + key, request).then((answer) => {
      if (answer.ok) return answer.json();
      throw answer.status;
    });
  };

  const host = make("div");
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
  let words = WORDS.en;

  const log = make("div", { class: "log", role: "log", tabindex: "0" });
  const ask = make("div", { class: "ask" });
  const title = make("h2", { id: "title" });
  const closer = make("button", { type: "button", text: "×", onclick: () => close() });
  const panel = make("section", { role: "dialog", "aria-labelledby": "title" }, [make("header", { role: "none" }, [title, closer]), log, ask]);
  panel.hidden = true;
  const launch = make("button", { type: "button", class: "launch", "aria-haspopup": "dialog", onclick: () => {
    inside = 1;
    open();
  } });
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  const outline = document.createElementNS("http://www.w3.org/2000/svg", "path");
  outline.setAttribute("d", "M4 4h16v12H10l-5 4v-4H4z");
  picture.append(outline);
  launch.append(picture);
  root.append(launch, panel);

  const dress = () => {
    const code = (language || document.documentElement.lang || navigator.language || "en").toLowerCase();
    words = WORDS[code.split("-")[0]] || WORDS.en;
    host.lang = code;
    host.dir = RIGHT_TO_LEFT.test(code) ? "rtl" : "ltr";
    if (option("theme")) host.setAttribute("data-theme", option("theme"));
    if (option("side") === "start") host.setAttribute("data-side", "start");
    const colour = option("colour").match(/^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i);
    if (colour) {
      // Black or white, whichever has the greater contrast (WCAG 2.2, relative luminance).
      const [red, green, blue] = colour.slice(1).map((part) => parseInt(part, 16) / 255).map((part) => (part > 0.04045 ? ((part + 0.055) / 1.055) ** 2.4 : part / 12.92));
      host.style.setProperty("--a", colour[0]);
      host.style.setProperty("--on", 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff");
    }
    title.textContent = option("title") || words.chat;
    launch.setAttribute("aria-label", words.open);
    closer.setAttribute("aria-label", words.close);
    log.setAttribute("aria-label", option("title") || words.chat);
  };

  const show = ({ by, text }) => {
    log.append(make("p", { class: by, dir: "auto" }, [make("span", { class: "seen", text: words[by] + ": " }), document.createTextNode(text)]));
    log.scrollTop = log.scrollHeight;
  };
  const say = (by, text) => {
    if (!text) return;
    const line = { by, text: short(text) };
    memory.lines = memory.lines.concat(line).slice(-MOST_LINES);
    remember();
    show(line);
  };
  // The chat takes the focus only from a person who is in it: a page that opens it does not.
  let inside = 0;
  const focus = () => {
    const first = ask.querySelector("button, input");
    if (first && inside && !panel.hidden) first.focus({ preventScroll: true });
  };
  const compose = (...nodes) => {
    ask.replaceChildren(...nodes.filter((node) => node));
    log.scrollTop = log.scrollHeight;
    focus();
  };

  // One request at a time. What failed stays, and is sent again as it was: a repeated answer counts once. What is refused
  // (422) is for the person to change: `change` shows it again.
  const attempt = (work, change) => {
    ask.replaceChildren(make("p", { class: "typing", role: "status", text: words.typing }));
    return work().catch((problem) => {
      if (problem === 422 && change) return change();
      compose(make("p", { class: "bad", role: "alert", text: words.again }), make("button", { type: "button", class: "main", text: words.retry, onclick: () => attempt(work, change) }));
    });
  };

  const typed = (label, act) => {
    const field = make("input", { type: "text", maxlength: LONGEST, autocomplete: "off", "aria-label": label, placeholder: label });
    const form = make("form", {
      onsubmit: (event) => {
        event.preventDefault();
        if (field.value.trim()) act(field.value.trim());
      },
    }, [field, make("button", { type: "submit", class: "main", text: words.send })]);
    return form;
  };
  const choices = (label, nodes) => make("div", { class: "choices", role: "group", "aria-label": label }, nodes);

  const answer = (question, content) => {
    say("you", Array.isArray(content) ? content.join(", ") : content);
    const time_taken = Math.min(86400, Math.round((Date.now() - since) / 100) / 10);
    attempt(() => post("answer", { session_id: session, question_id: question.id, answer_text: content, time_taken, language }).then(next), () => put(question));
  };
  const put = (question) => {
    const several = question.several && question.options.length > 0;
    const chosen = new Set();
    const done = make("button", { type: "button", class: "main", text: words.done, onclick: () => chosen.size && answer(question, [...chosen]) });
    const options = question.options.map((text) => {
      const choose = (event) => {
        if (!several) return answer(question, text);
        const pressed = !chosen.delete(text);
        if (pressed) chosen.add(text);
        event.currentTarget.setAttribute("aria-pressed", "" + pressed);
      };
      return make("button", { type: "button", text, "aria-pressed": several ? "false" : undefined, onclick: choose });
    });
    compose(options.length ? choices(question.text, options) : null, several ? done : null, typed(words.write, (text) => answer(question, text)));
  };
  const contact = (refused) => {
    const wanted = [["name", "text"], ["email", "email"], ["phone", "tel"]];
    const fields = wanted.map(([name, type]) => make("input", { name, type, maxlength: 200, autocomplete: name === "phone" ? "tel" : name }));
    const bad = make("p", { class: "bad", role: "alert", text: words.reach });
    bad.hidden = !refused;
    const labels = fields.map((field) => make("label", { text: words[field.name] }, [field]));
    const form = make("form", {
      novalidate: "",
      onsubmit: (event) => {
        event.preventDefault();
        const profile_data = {};
        fields.forEach(({ name, value }) => {
          if (value.trim()) profile_data[name] = value.trim();
        });
        bad.hidden = !!(profile_data.email || profile_data.phone) && fields[1].checkValidity();
        if (!bad.hidden) return fields[1].focus();
        say("you", Object.values(profile_data).join(", "));
        attempt(() => post("lead/profile", { session_id: session, profile_data, language }).then(next), () => contact(1));
      },
    }, labels.concat(bad, make("button", { type: "submit", class: "main", text: words.send }), make("button", { type: "button", text: words.skip, onclick: () => offers() })));
    compose(form);
  };
  const offers = () => {
    const spoken = "?language=" + encodeURIComponent(language);
    attempt(() => Promise.all([send("product-menu" + spoken), send("cta-options" + spoken)]).then(([menu, calls]) => {
      const click = (offer, action, metadata) => {
        say("you", offer.text);
        attempt(() => post("behavior", { session_id: session, action, metadata, language }).then(() => {
          say("bot", offer.description || flow.thanks);
          offers();
        }));
      };
      const products = menu.products.map((offer) => make("button", { type: "button", text: offer.text, onclick: () => click(offer, "clicked_product", { product_id: offer.id, product_name: offer.text }) }));
      const goals = calls.cta_options.map((offer) => make("button", { type: "button", class: "main", text: offer.text, onclick: () => click(offer, offer.action || "cta_clicked", { cta_id: offer.id, text: offer.text }) }));
      compose(goals.length ? choices(title.textContent, goals) : null, products.length ? choices(title.textContent, products) : null);
    }));
  };

  // Of the open questions the first one, in the order of the experiment if there is one.
  const chosen_of = (state) => {
    const rank = (question) => (order.indexOf(question.profile_field) + 1 || order.length + 1) * 1000 + question.order;
    const open_questions = flow.questions.filter((question) => !state.answered.includes(question.id));
    return open_questions.sort((one, other) => rank(one) - rank(other))[0] || state.next_question;
  };
  const next = (state) => {
    since = Date.now();
    if (state.asks === "question") {
      const question = chosen_of(state);
      say("bot", question.text);
      put(question);
    } else {
      say("bot", state.reply);
      if (state.asks === "contact") contact();
      else offers();
    }
  };

  // Without an experiment of that name, everybody sees what the flow says.
  const variant_of = (name) => (name === "off" ? Promise.resolve({}) : post("ab-test/variant/" + encodeURIComponent(name), { session_id: session }).catch(() => ({})));
  const parameter = (name) => (location.search.match("[?&]" + name + "=([^&#]*)") || [])[1];
  const decoded = (content) => {
    try {
      return decodeURIComponent(content.replace(/\+/g, " ")).slice(0, 200);
    } catch (problem) {
      return undefined;
    }
  };
  const begin = () => {
    // track.js may have come after this script.
    session = session || known();
    const start = { session_id: session || undefined };
    ["utm_source", "utm_medium", "utm_campaign"].forEach((name) => {
      if (parameter(name)) start[name] = decoded(parameter(name));
    });
    return post("session/start", start).then((started) => {
      session = memory.session = started.session_id;
      if (session !== visitor()) kept("localStorage", SESSION, session);
      return flow_of(session);
    }).then(({ state, greeting, question }) => {
      flow = state;
      order = (question.config && question.config.order) || [];
      language = memory.language = state.language;
      dress();
      if (!memory.lines[0]) {
        const variant = state.greeting.variants[greeting.variant];
        say("bot", variant ? variant.text : state.greeting.text);
      }
      // The last line of the page before was the question itself.
      const last = memory.lines[memory.lines.length - 1];
      const waiting = state.asks === "question" ? chosen_of(state).text : state.reply;
      if (last && last.by === "bot" && last.text === short(waiting)) {
        memory.lines.pop();
        log.lastChild.remove();
      }
      next(state);
    });
  };
  const spoken_in = (languages) => {
    const wished = [option("language"), document.documentElement.lang].concat(navigator.languages || []).filter((code) => code).map((code) => code.toLowerCase());
    const near = (code) => languages.find((each) => each.toLowerCase() === code) || languages.find((each) => each.toLowerCase().split("-")[0] === code.split("-")[0]);
    return wished.map(near).find((each) => each) || languages[0];
  };
  const flow_of = (session_id) => {
    const address = "questions?session_id=" + encodeURIComponent(session_id);
    return send(address).then((state) => {
      const wanted = memory.language || spoken_in(state.languages);
      const inLanguage = wanted === state.language ? state : send(address + "&language=" + encodeURIComponent(wanted));
      const greeted = Object.keys(state.greeting.variants)[0] ? variant_of(option("greeting-test") || "greeting_message") : {};
      const ordered = option("order-test") ? variant_of(option("order-test")) : {};
      return Promise.all([inLanguage, greeted, ordered]);
    }).then(([state, greeting, question]) => ({ state, greeting, question }));
  };

  let started = 0;
  const open = () => {
    panel.hidden = false;
    launch.hidden = true;
    host.setAttribute("data-open", "");
    memory.open = 1;
    remember();
    if (started) return focus();
    started = 1;
    memory.lines.forEach(show);
    attempt(begin);
  };
  const close = () => {
    panel.hidden = true;
    launch.hidden = false;
    host.removeAttribute("data-open");
    memory.open = 0;
    remember();
    launch.focus();
  };
  panel.addEventListener("focusin", () => {
    inside = 1;
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });

  const mount = () => {
    dress();
    document.body.append(host);
    // On a phone it would cover the page.
    if (innerWidth > 480 && (memory.open || (option("open") === "yes" && memory.open !== 0))) open();
  };
  window.leadstreamChat = { open, close };
  if (document.body) mount();
  else document.addEventListener("DOMContentLoaded", mount);
})();
