// The subcommands of qkv, one file each. To add one: write cli/<name>_command.cc with an add_<name>_command, declare it here
// and call it in main.cc. A command throws Failure, or CLI::ParseError for wrong options.
#pragma once

#include <CLI/CLI.hpp>

namespace qkv::cli {

void add_look_command(CLI::App& app);
void add_translate_command(CLI::App& app);
void add_search_command(CLI::App& app);
void add_find_command(CLI::App& app);
void add_claims_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_isa_command(CLI::App& app);
void add_serve_command(CLI::App& app);

}  // namespace qkv::cli
