// Titles from a table of an SQLite database. It stands here and not in src/library/ because the library, which the SQLite
// extension is made of, is to link with no SQLite of its own.
#pragma once

#include <filesystem>
#include <string>

#include "library/titles.h"

namespace qkv::cli {

bool is_sqlite(const std::filesystem::path& path);

// Reads a table or view, in the order of its rows, without writing to the database; Title::line is the row's number from 1. An
// empty `table` is the only one there is. Throws std::runtime_error that names the file and what is there.
library::Titles read_sqlite_titles(const std::filesystem::path& path, const std::string& table,
                                   const std::string& column);

}  // namespace qkv::cli
