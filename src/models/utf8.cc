#include "models/utf8.h"

#include <unicode/utf8.h>

#include <limits>
#include <stdexcept>

namespace qkv::models {

bool is_utf8(std::string_view text) {
  if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw std::invalid_argument("the text is longer than 2 GiB");
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto length = static_cast<std::int32_t>(text.size());
  for (std::int32_t i = 0; i < length;) {
    UChar32 character;
    U8_NEXT(bytes, i, length, character);
    if (character < 0) return false;
  }
  return true;
}

}  // namespace qkv::models
