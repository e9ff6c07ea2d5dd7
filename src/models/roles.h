// roles.json of a model folder: what each attention head was measured to do.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::models {

// {"schema": 1, "heads": [{"block": "decoder_cross", "layer": 0, "head": 3, "role": "alignment", "score": 0.86,
//  "chance": 0.2, "guided": true}, …]}; a head may appear more than once, with different roles.
struct HeadRole {
  std::string block;  // "encoder", "decoder_self" or "decoder_cross"
  int layer = 0;
  int head = 0;
  std::string role;     // "alignment", "coreference", "previous", "next", …
  double score = 0;     // on labelled examples, 0 to 1
  double chance = 0;    // what a guess would score
  bool guided = false;  // trained for the role

  // The name of the head's layer on an AttentionTape, e.g. "encoder.0.self", "decoder.2.cross".
  std::string where() const;
};

// Empty if the folder has no roles.json. Throws std::runtime_error if the file is damaged.
std::vector<HeadRole> load_roles(const std::filesystem::path& folder);

// The head with the role: guided before measured, then by score; null if there is none.
const HeadRole* find_role(const std::vector<HeadRole>& roles, std::string_view role);

}  // namespace qkv::models
