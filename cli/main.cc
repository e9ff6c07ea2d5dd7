// qkv: one subcommand a file (commands.h); here only what they have in common.
#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "qkv/isa.h"

namespace qkv::cli {
namespace {

void add_commands(CLI::App& app) {
  add_look_command(app);
  add_translate_command(app);
  add_search_command(app);
  add_find_command(app);
  add_serve_command(app);
  add_claims_command(app);
  add_bench_command(app);
  add_isa_command(app);
}

int run(int argc, char** argv) {
  CLI::App app("What a trained attention model looked at: exact attention, with its weights.",
               "qkv");
  app.set_version_flag("--version", "qkv " + std::string(version()), "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  qkv look \"那个红色的苹果看起来很好吃，我想吃掉它\"\n"
      "  qkv look \"The cat sat on the mat because it was tired\" --heads\n"
      "  qkv translate \"The cat sits on the mat\" --alignment\n"
      "  qkv search \"我想找关于量子物理的书\" books.tsv\n"
      "  qkv find \"红色的车\" street.png --out found.png\n"
      "  qkv claims\n\n"
      "qkv COMMAND --help tells about one command. Exit codes: 0 fine, 1 failure, 2 wrong usage,\n"
      "3 the text or picture, 4 the model, 5 output closed early. QKV_ISA=name forces an "
      "instruction set\n"
      "(see qkv isa).");
  add_commands(app);
  if (argc <= 1) {
    std::cerr << app.help();
    return static_cast<int>(Exit::usage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked_for) {  // --help, --version
    app.exit(asked_for);
  } catch (const CLI::ParseError& error) {
    std::string command = "qkv";
    for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name();
    warn(std::string(error.what()) + "\n" + command + " --help tells what it takes");
    return static_cast<int>(Exit::usage);
  }
  std::cout.flush();
  if (!std::cout) throw Failure(Exit::failure, "cannot write to standard output");
  return static_cast<int>(Exit::ok);
}

}  // namespace
}  // namespace qkv::cli

int main(int argc, char** argv) {
  using qkv::cli::Exit;
  std::signal(SIGPIPE, SIG_IGN);  // write() then says EPIPE, and the exit code tells
  try {
    return qkv::cli::run(argc, argv);
  } catch (const qkv::cli::Failure& failure) {
    qkv::cli::warn(failure.what());
    return static_cast<int>(failure.code());
  } catch (const std::bad_alloc&) {
    qkv::cli::warn("not enough memory");
  } catch (const std::exception& error) {
    qkv::cli::warn(error.what());
  }
  return static_cast<int>(Exit::failure);
}
