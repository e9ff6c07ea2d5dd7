#include "models/model_path.h"

#include <cstdlib>
#include <set>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace qkv::models {
namespace {

namespace fs = std::filesystem;

bool directory_exists(const fs::path& path) {
  std::error_code error;  // an unreadable parent is a "no", not an exception
  return fs::is_directory(path, error);
}

bool holds_config(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path / "config.json", error);
}

// Directories that hold models, in the order of find_model.
std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders;
  if (const char* named = std::getenv("QKV_MODELS"); named != nullptr && *named != '\0') {
    folders.emplace_back(named);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    folders.push_back((program.parent_path() / "../share/qkv/models").lexically_normal());
  }
  folders.emplace_back(QKV_SOURCE_MODELS);
  folders.emplace_back(QKV_INSTALLED_MODELS);
  return folders;
}

std::set<std::string> models_in(const std::vector<fs::path>& folders) {
  std::set<std::string> names;
  for (const fs::path& folder : folders) {
    std::error_code error;
    for (auto entry = fs::directory_iterator(folder, error);
         !error && entry != fs::directory_iterator(); entry.increment(error)) {
      if (holds_config(entry->path())) names.insert(entry->path().filename().string());
    }
  }
  return names;
}

}  // namespace

fs::path find_model(const std::string& name_or_dir) {
  if (name_or_dir.empty()) throw std::runtime_error("find_model: the model's name is empty");
  fs::path named(name_or_dir);
  const bool is_path = named.has_parent_path() || named == "." || named == "..";
  if (is_path) {
    if (directory_exists(named)) return named;
    throw std::runtime_error("model directory \"" + name_or_dir + "\" does not exist");
  }
  if (holds_config(named)) return named;

  const std::vector<fs::path> folders = model_folders();
  for (const fs::path& folder : folders) {
    if (directory_exists(folder / named)) return folder / named;
  }

  std::string message = "model \"" + name_or_dir + "\" was not found; looked for\n  " +
                        (fs::path(".") / named / "config.json").string();
  for (const fs::path& folder : folders) message += "\n  " + (folder / named).string();
  const std::set<std::string> known = models_in(folders);
  if (!known.empty()) {
    message += "\nmodels that are there:";
    for (const std::string& name : known) message += " " + name;
  }
  if (std::getenv("QKV_MODELS") == nullptr) {
    message += "\nset QKV_MODELS to a directory that holds models, or give a model's directory";
  }
  throw std::runtime_error(message);
}

}  // namespace qkv::models
