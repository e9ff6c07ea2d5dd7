// Any bytes as a picture file and as an EXIF block: refused with picture::Error, or an upright picture that fits the finder's square
// and can be written again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "picture/decode.h"
#include "picture/orientation.h"
#include "picture/png.h"
#include "picture/resize.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace picture = qkv::picture;
  const picture::Bytes bytes(data, size);
  if (const int seen = picture::exif_orientation(bytes); seen < 1 || seen > 8) std::abort();
  try {
    const picture::Image image = picture::decode(bytes, {128});
    if (std::ssize(image.rgb) != image.width * image.height * 3) std::abort();
    const float scale = 16.0f / static_cast<float>(std::max(image.width, image.height));
    for (const float value : picture::in_square(image, {scale, 0, 0}, 16, 0.5f))
      if (!(value >= 0 && value <= 1)) std::abort();
    if (picture::decode(picture::encode_png(image)).rgb != image.rgb) std::abort();
  } catch (const picture::Error&) {
  }
  return 0;
}
