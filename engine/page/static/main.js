// The page's shell: the fields, the tabs, the log, and the views that are plugged in.
// Everything a test or a user needs to see stands in the document, in texts and data
// attributes.

import { Connection } from "./connection.js";
import { byId } from "./dom.js";
import { log, wireLog } from "./log.js";
import { mount as mountPublish } from "./publish.js";
import { Router, linkTo } from "./router.js";
import { mount as mountStatus } from "./status.js";
import { mount as mountWatch } from "./watch.js";

// A view is a module with mount(root, context), which fills its section and returns
// what the shell may call, all of it optional:
//   start(params)   Enter in the connection's fields
//   shown(params)   the view became visible; params is what the fragment says
//   arrived(params) the page was opened, or its address changed, with a link to this view
//   hidden()        another view is shown now
const mounts = { watch: mountWatch, publish: mountPublish, status: mountStatus };
const withoutConnection = new Set(["status"]);

const views = {};
const router = new Router(Object.keys(mounts), views);
const connection = new Connection(() => views[router.view].start?.(router.params()));

const context = {
  connection,
  log,

  /** A link to a view, or to "embed", with everything in its fragment, the key too. */
  linkTo: (view, given) => (view === "embed" ? linkTo(new URL("embed", location.href).pathname, given) : linkTo(location.pathname, { view, ...given })),

  /** Another view, with what is given of {scheme, host, channel, key} filled in. */
  go(view, given = {}) {
    connection.fill(given);
    router.choose(view);
  },
};

for (const [name, mount] of Object.entries(mounts)) {
  const view = mount(byId(name), context) ?? {};
  views[name] = {
    ...view,
    shown(params) {
      connection.show(!withoutConnection.has(name));
      view.shown?.(params);
    },
  };
}

// arrive follows the address: at the start, on a link, and on the way back.
function arrive() {
  const params = router.params();
  connection.fill(Object.fromEntries(params));
  const wanted = params.get("view");
  const name = router.names.includes(wanted) ? wanted : router.view ?? "watch";
  router.show(name);
  views[name].arrived?.(params);
}

wireLog();
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the view's
  byId("main").focus();
});
addEventListener("hashchange", arrive);
arrive();
document.body.dataset.ready = "true";
