// Classifies images with an exported model, in a browser or in node; needs only onnxruntime-web.
import * as ort from "onnxruntime-web";

export const classes = CLASSES;
const channels = CHANNELS;

/** Opens the model; `source` is its URL or its bytes. */
export async function load(source = new URL("model.onnx", import.meta.url)) {
  if (source.protocol === "file:") source = await (await import("node:fs/promises")).readFile(source); // node alone
  return ort.InferenceSession.create(source.href ?? source);
}

/** The pixels of a loaded <img>, an ImageBitmap or a <canvas> in its own size; what is transparent is laid on white. */
export function pixelsOf(image) {
  if (image.complete === false) throw new Error("the image is not loaded yet: await image.decode() first");
  const width = image.naturalWidth ?? image.width;
  const height = image.naturalHeight ?? image.height;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (channels !== 4) {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
  }
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Probabilities in the order of `classes`, of pixels { data: RGBA bytes, width, height }. */
export async function classify(session, { data, width, height }) {
  const input = new Uint8Array(width * height * channels);
  for (let pixel = 0; pixel < width * height; pixel++) {
    if (channels === 1) {
      const [red, green, blue] = data.subarray(4 * pixel);
      input[pixel] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
    } else {
      for (let channel = 0; channel < channels; channel++) input[channels * pixel + channel] = data[4 * pixel + channel];
    }
  }
  const images = new ort.Tensor("uint8", input, [1, height, width, channels]);
  const { probabilities } = await session.run({ images });
  return probabilities.data;
}
