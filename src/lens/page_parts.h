// What the page's data of every kind are made of; docs/page.md lists the fields.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "layers/tape.h"
#include "lens/piece_map.h"
#include "models/roles.h"
#include "models/tokenizer.h"

namespace qkv::lens {

using PageJson =
    nlohmann::ordered_json;  // fields stay in the order in which the document lists them

// RFC 4648.
std::string base64(std::string_view bytes);
// Of the numbers as they lie in memory, little-endian.
std::string base64(std::span<const float> values);

// One side of the attention: the words that ask, or those that are read.
PageJson page_side(std::string_view text, std::string_view language,
                   std::span<const models::Piece> pieces, const PieceMap& map);

// One record. Of the heads that the two name, with the weights and with the outputs too.
PageJson page_layer(const layers::AttentionRecord& record, std::span<const models::HeadRole> roles,
                    const std::function<bool(int head)>& weights,
                    const std::function<bool(int head)>& outputs);

// Without line breaks; bytes that are not UTF-8 as U+FFFD.
std::string page_text(const PageJson& json);

}  // namespace qkv::lens
