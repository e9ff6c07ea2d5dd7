// Whether bytes are text.
#pragma once

#include <string_view>

namespace qkv::models {

// True for valid UTF-8. Throws std::invalid_argument for 2 GiB and more, which ICU's indices do not reach.
bool is_utf8(std::string_view text);

}  // namespace qkv::models
