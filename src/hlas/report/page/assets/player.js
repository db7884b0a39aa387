// Audio of an utterance: a clip inside this file, or a link to the file beside it. Nothing is decoded before a click.

/** Addresses to try for an utterance's audio, in turn; empty where the page has none. */
function audioSources(data, index) {
  const clip = data.audio[index];
  if (clip === 1) {
    const holder = document.getElementById(`clip-${index}`);
    return [`data:${holder.dataset.type};base64,${holder.textContent}`];
  }
  return clip ? data.audio_bases.map((base) => base + clip) : [];
}

/** A button that becomes the browser's own player; null where there is no audio. */
function playButton(data, index) {
  if (!data.audio[index]) return null;
  const seconds = data.seconds[index].toFixed(1);
  const button = element("button", {type: "button", class: "play"}, `▶ Play ${seconds} s`);
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("audio")) other.pause();
    const sources = audioSources(data, index).map((src) => element("source", {src}));
    const player = element("audio", {controls: true, "aria-label": `Audio of ${data.name[index]}`}, ...sources);
    sources.at(-1).addEventListener("error", () => {
      player.replaceWith(element("span", {class: "soft", role: "alert"}, "The audio file is not where it was."));
    });
    button.replaceWith(player);
    player.focus();
    player.play().catch(() => {}); // refused or not decodable: the player itself shows it
  });
  return button;
}
