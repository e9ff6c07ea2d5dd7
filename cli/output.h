// Standard output and standard error as commands use them.
#pragma once

#include <string>
#include <string_view>

#include "lens/terminal.h"

namespace qkv::cli {

// Writes all of it to standard output, at once. Throws Failure: closed if the reader has gone, failure if it cannot be written.
void write_output(std::string_view text);

// Replaces the file's content. Throws Failure (failure) with the reason.
void write_file(const std::string& path, std::string_view text);

// "qkv: message" on standard error. Control characters of the message are made visible.
void warn(std::string_view message);

// Width from the terminal, else from COLUMNS, else 80; colours only on a terminal that is not dumb, unless NO_COLOR is set
// (https://no-color.org).
lens::Screen standard_screen();

bool error_is_terminal();

}  // namespace qkv::cli
