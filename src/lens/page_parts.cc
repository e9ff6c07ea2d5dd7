#include "lens/page_parts.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lens/report.h"

namespace qkv::lens {
namespace {

using layers::AttentionRecord;

PageJson parts(const std::vector<PieceMap::Part>& list) {
  PageJson json = PageJson::array();
  for (const PieceMap::Part& part : list)
    json.push_back({part.index, static_cast<double>(part.share)});
  return json;
}

PageJson roles_at(std::span<const models::HeadRole> roles, const std::string& where, int head) {
  std::vector<const models::HeadRole*> found;
  for (const models::HeadRole& role : roles) {
    if (role.head == head && role.where() == where) found.push_back(&role);
  }
  const auto above = [](const models::HeadRole* role) {
    return role->chance < 1 ? (role->score - role->chance) / (1 - role->chance) : 0;
  };
  std::stable_sort(found.begin(), found.end(),
                   [&](const auto* a, const auto* b) { return above(a) > above(b); });
  PageJson list = PageJson::array();
  for (const models::HeadRole* role : found) {
    list.push_back({{"role", role->role},
                    {"score", role->score},
                    {"chance", role->chance},
                    {"guided", role->guided}});
  }
  return list;
}

}  // namespace

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    unsigned group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    for (std::size_t i = 0; i < 4; ++i)
      text += i <= count ? kDigits[group >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

std::string base64(std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little, "the page reads little-endian numbers");
  std::string bytes(values.size_bytes(), '\0');
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return base64(bytes);
}

PageJson page_side(std::string_view text, std::string_view language,
                   std::span<const models::Piece> pieces, const PieceMap& map) {
  PageJson words = PageJson::array();
  for (std::size_t i = 0; i < map.words().size(); ++i) {
    const Word& word = map.words()[i];
    const std::string_view before = text.substr(0, word.at.begin);
    words.push_back({{"text", word.text},
                     {"kind", kind_name(word.kind)},
                     {"pronoun", word.pronoun},
                     {"space", !word.special() && trim(before).size() < before.size()},
                     {"pieces", parts(map.pieces_of(static_cast<int>(i)))}});
  }
  PageJson shown = PageJson::array();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    shown.push_back({{"text", pieces[i].special ? special_word(pieces[i]).text : pieces[i].text},
                     {"words", parts(map.words_of(static_cast<int>(i)))}});
  }
  return {{"text", text},
          {"language", language},
          {"words", std::move(words)},
          {"sentence", map.sentence_words()},
          {"pieces", std::move(shown)}};
}

PageJson page_layer(const AttentionRecord& record, std::span<const models::HeadRole> roles,
                    const std::function<bool(int head)>& weights,
                    const std::function<bool(int head)>& outputs) {
  PageJson weights_of = PageJson::array();
  PageJson outputs_of = PageJson::array();
  PageJson measured = PageJson::array();
  const auto size = static_cast<std::size_t>(record.queries * record.dim_v);
  const std::span all(record.out);
  for (int head = 0; head < record.heads; ++head) {
    weights_of.push_back(weights(head) ? PageJson(base64(head_weights(record, head)))
                                       : PageJson(nullptr));
    const bool has_output = !record.out.empty() && outputs(head);
    outputs_of.push_back(
        has_output ? PageJson(base64(all.subspan(static_cast<std::size_t>(head) * size, size)))
                   : PageJson(nullptr));
    measured.push_back(roles_at(roles, record.where, head));
  }
  return {{"where", record.where},
          {"heads", record.heads},
          {"queries", record.queries},
          {"keys", record.keys},
          {"dim_k", record.dim_k},
          {"dim_v", record.dim_v},
          {"scale", static_cast<double>(record.scale)},
          {"causal", record.causal},
          {"q", base64(record.q)},
          {"k", base64(record.k)},
          {"v", base64(record.v)},
          {"lse", base64(record.lse)},
          {"weights", std::move(weights_of)},
          {"out", std::move(outputs_of)},
          {"roles", std::move(measured)}};
}

std::string page_text(const PageJson& json) {
  return json.dump(-1, ' ', false, PageJson::error_handler_t::replace);
}

}  // namespace qkv::lens
