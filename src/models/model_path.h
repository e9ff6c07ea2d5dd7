// Where a model's directory is, for whoever names one on a command line or in code.
#pragma once

#include <filesystem>
#include <string>

namespace qkv::models {

// The directory of the model called `name_or_dir`. Tried in this order:
//   1. `name_or_dir` itself as a directory (a bare word only if that directory holds a config.json)
//   2. $QKV_MODELS/<name>
//   3. share/qkv/models/<name> beside the running program's directory (an installed, movable tree)
//   4. the source tree this library was built from, models/<name>
//   5. the install prefix this library was configured with, share/qkv/models/<name>
// A name with a directory separator is a path: only 1 is tried. Throws std::runtime_error that
// lists every place it looked at, and the models that are there, when none holds it.
std::filesystem::path find_model(const std::string& name_or_dir);

}  // namespace qkv::models
