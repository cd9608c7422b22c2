/* What is wrong with the slide that is shown now: letters below `smallest` pixels, and what leaves the slide or lies
   on something else. Pictures say how many points their smallest letters have and how many inches they are wide. */
(smallest) => {
  const found = [], section = Reveal.getCurrentSlide(), slide = section.querySelector('.slide');
  const scale = Reveal.getScale();
  const style = getComputedStyle(slide), outer = slide.getBoundingClientRect();
  const side = name => parseFloat(style[name]) * scale;
  const inner = {left: outer.left + side('paddingLeft'), right: outer.right - side('paddingRight'),
                 top: outer.top + side('paddingTop'), bottom: outer.bottom - side('paddingBottom')};
  const inside = rect => rect.left >= inner.left - 8 * scale && rect.right <= inner.right + 8 * scale
    && rect.top >= inner.top - 8 * scale && rect.bottom <= inner.bottom + 8 * scale;  // a letter's box is taller than its line
  const short = text => text.trim().replace(/\s+/g, ' ').slice(0, 40);
  const boxes = [];  // [part of the slide, rectangle, words]
  const parts = [...slide.querySelectorAll('h1, h2, .body > *, .body li')].filter(part => part.tagName !== 'UL');
  const partOf = node => node.parentElement.closest('h1, h2, li') || parts.filter(part => part.contains(node)).pop();
  if (!slide.innerText.trim() && !slide.querySelector('img')) { found.push('nothing is shown'); }

  const walker = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.data.trim() || (section.classList.contains('whole') && node.parentElement.closest('h2'))) { continue; }
    const pixels = parseFloat(getComputedStyle(node.parentElement).fontSize) * scale;
    if (pixels < smallest - 0.01) { found.push(`letters of ${pixels.toFixed(1)} px: ${short(node.data)}`); }
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      if (rect.width > 0 && rect.height > 0) { boxes.push([partOf(node), rect, short(node.data)]); }
    }
  }
  for (const picture of slide.querySelectorAll('img')) {
    const rect = picture.getBoundingClientRect(), told = picture.dataset;
    boxes.push([picture, rect, `picture ${short(picture.alt)}`]);
    if (!picture.complete || !picture.naturalWidth) { found.push(`a picture that cannot be drawn: ${picture.alt}`); }
    const pixels = told.points / 72 * rect.width / told.inches;
    if (!(pixels >= smallest - 0.01)) { found.push(`letters of ${pixels.toFixed(1)} px in picture ${short(picture.alt)}`); }
    const bent = rect.width / rect.height / (picture.naturalWidth / picture.naturalHeight);
    if (!(Math.abs(bent - 1) < 0.02)) { found.push(`a stretched picture: ${short(picture.alt)}`); }
  }
  for (const [, rect, words] of boxes) {
    if (!inside(rect)) { found.push(`leaves the slide: ${words}`); }
  }
  const whole = new Map();  // part to the rectangle around all of it
  for (const [part, rect, words] of boxes) {
    const old = whole.get(part) || {left: rect.left, right: rect.right, top: rect.top, bottom: rect.bottom, words};
    whole.set(part, {left: Math.min(old.left, rect.left), right: Math.max(old.right, rect.right),
                     top: Math.min(old.top, rect.top), bottom: Math.max(old.bottom, rect.bottom), words: old.words});
  }
  const all = [...whole.values()];
  all.forEach((one, at) => all.slice(at + 1).forEach(other => {
    const over = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
    const beside = Math.min(one.right, other.right) - Math.max(one.left, other.left);
    if (over > 6 && beside > 2) { found.push(`lie on each other: ${one.words} | ${other.words}`); }
  }));
  return [...new Set(found)];
}
