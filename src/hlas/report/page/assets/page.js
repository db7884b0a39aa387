// What belongs to the whole page: the theme switch, and the start of the utterance browser.

const THEMES = ["auto", "light", "dark"]; // auto = what the system asks for

function storedTheme() {
  try {
    return localStorage.getItem("hlas-theme") || "auto";
  } catch {
    return "auto"; // storage is refused, as in some browsers for local files
  }
}

function showTheme(theme) {
  document.getElementById("theme").textContent = `Theme: ${theme}`;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function startTheme() {
  let theme = THEMES.includes(storedTheme()) ? storedTheme() : "auto";
  const button = document.getElementById("theme");
  button.hidden = false;
  showTheme(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    showTheme(theme);
    try {
      localStorage.setItem("hlas-theme", theme);
    } catch {
      // the choice then lasts as long as the page is open
    }
  });
}

/** Paper has no clicks: open every folded part before printing, and fold it again afterwards. */
function startPrinting() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
  });
}

startTheme();
startPrinting();
const browserData = pageJson("utterance-data");
if (browserData) new UtteranceBrowser(browserData).start();
