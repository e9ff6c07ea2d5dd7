// The files of page/, which CMake puts into the library (page_files.cc in the build tree).
#pragma once

#include <span>
#include <string_view>

namespace qkv::lens {

struct PageFile {
  std::string_view name;  // "main.js"
  std::string_view text;
};

std::span<const PageFile> page_files();

}  // namespace qkv::lens
