#include "models/roles.h"

#include <stdexcept>

#include "models/json_file.h"

namespace qkv::models {

std::string HeadRole::where() const {
  const std::string number = std::to_string(layer);
  if (block == "encoder") return "encoder." + number + ".self";
  return "decoder." + number + (block == "decoder_cross" ? ".cross" : ".self");
}

std::vector<HeadRole> load_roles(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "roles.json";
  if (!std::filesystem::exists(path)) return {};
  const JsonFile file(path);
  if (file.integer("schema", 1, 1) != 1) file.fail("schema", "expected 1");
  const nlohmann::json* heads = file.find("heads");
  if (heads == nullptr || !heads->is_array()) file.fail("heads", "expected a list");
  std::vector<HeadRole> roles;
  for (const nlohmann::json& head : *heads) {
    HeadRole& role = roles.emplace_back();
    try {
      role.block = head.at("block").get<std::string>();
      role.layer = head.at("layer").get<int>();
      role.head = head.at("head").get<int>();
      role.role = head.at("role").get<std::string>();
      role.score = head.value("score", 0.0);
      role.chance = head.value("chance", 0.0);
      role.guided = head.value("guided", false);
    } catch (const nlohmann::json::exception& error) {
      file.fail("heads", std::string(error.what()) + " in " + head.dump());
    }
    if (role.block != "encoder" && role.block != "decoder_self" && role.block != "decoder_cross")
      file.fail("heads",
                "block must be encoder, decoder_self or decoder_cross, got \"" + role.block + "\"");
    if (role.layer < 0 || role.head < 0)
      file.fail("heads", "layer and head count from 0, got " + head.dump());
  }
  return roles;
}

const HeadRole* find_role(const std::vector<HeadRole>& roles, std::string_view role) {
  const HeadRole* best = nullptr;
  for (const HeadRole& head : roles) {
    if (head.role != role) continue;
    const bool better = best == nullptr || (head.guided && !best->guided) ||
                        (head.guided == best->guided && head.score > best->score);
    if (better) best = &head;
  }
  return best;
}

}  // namespace qkv::models
