// Light or dark before the first picture is painted: a classic script in the
// head, because a module would run too late. Nothing but the choice is kept.
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  const kept = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is forbidden
    }
  };
  const keep = (theme) => {
    try {
      if (theme) localStorage.setItem("theme", theme);
      else localStorage.removeItem("theme");
    } catch {
      // it holds until the page is closed
    }
  };
  const now = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
  const changed = () => document.dispatchEvent(new Event("themechange"));

  if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
  system.addEventListener("change", changed);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const name = () => button.setAttribute("aria-label", now() === "dark" ? "Light theme" : "Dark theme");
    button.addEventListener("click", () => {
      const wanted = now() === "dark" ? "light" : "dark";
      // The system's own theme is followed again when it is what is wanted.
      if ((wanted === "dark") === system.matches) delete root.dataset.theme;
      else root.dataset.theme = wanted;
      keep(root.dataset.theme);
      changed();
    });
    document.addEventListener("themechange", name);
    name();
  });
}
