// Builds what is shown: elements with text, never markup, since names of files and classes may be anybody's.

// element("p", "quiet", "text", child, ...)
export function element(kind, name = "", ...inside) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  made.append(...inside.filter((one) => one !== null && one !== undefined));
  return made;
}

// A share of 1 in figures; nothing but a certainty is written as one.
export function percent(share) {
  if (share > 0.9995 && share < 1) return "> 99.9 %";
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(1)} %`;
}

// The classes with the largest shares, each with its figure; the bar beside it says nothing more.
export function bars(top, title) {
  const list = element("ul", "bars");
  list.ariaLabel = title;
  for (const { class: name, probability } of top) {
    const bar = element("span", "bar");
    bar.style.width = `${100 * probability}%`;
    const track = element("span", "track", bar);
    track.ariaHidden = "true";
    list.append(element("li", "", element("span", "", name), element("span", "share", percent(probability)), track));
  }
  return list;
}

// A small picture of a file as it lies, or null for one that this browser cannot show.
export async function thumbnail(file, side) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

// A picture that the server has made, by its data address.
export function picture(address, text, name = "") {
  const made = element("img", name);
  made.alt = text;
  made.src = address;
  return made;
}
