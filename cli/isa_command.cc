#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "qkv/isa.h"

namespace qkv::cli {
namespace {

void run_isa(bool json) {
  std::string used;
  try {
    used = isa();
  } catch (const std::invalid_argument& error) {  // QKV_ISA
    throw Failure(Exit::usage, error.what());
  }
  if (json) {
    const nlohmann::ordered_json object = {
        {"schema", 1}, {"isa", used}, {"supported", supported_isas()}};
    return write_output(object.dump() + "\n");
  }
  std::string text = "in use: " + used + "\nsupported:";
  for (const std::string_view name : supported_isas()) text += " " + std::string(name);
  write_output(text + "\n");
}

}  // namespace

void add_isa_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("isa", "The instruction set in use, and those that this machine has");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One JSON object (docs/json.md)");
  command->footer("QKV_ISA=avx2 qkv … forces one; an unknown or unsupported name is an error.");
  command->callback([json] { run_isa(*json); });
}

}  // namespace qkv::cli
