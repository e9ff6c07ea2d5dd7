#include <memory>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "lens/claims.h"
#include "lens/json.h"
#include "lens/terminal.h"

namespace qkv::cli {
namespace {

void run_claims(bool json) {
  const std::vector<lens::Claim> claims = lens::check_claims();
  int holding = 0;
  std::string surprises;
  std::string text;
  const lens::Screen screen = standard_screen();
  for (const lens::Claim& claim : claims) {
    holding += claim.holds;
    if (claim.holds != claim.expected) surprises += " " + claim.id;
    if (!json) text += lens::to_terminal(claim, screen) + "\n";
  }
  if (json) {
    text = lens::to_json(claims) + "\n";
  } else {
    const int count = static_cast<int>(claims.size());
    text += std::to_string(count) + " claims: " + std::to_string(holding) + " true, " +
            std::to_string(count - holding) + " not true\n";
  }
  write_output(text);
  if (!surprises.empty())
    throw Failure(Exit::failure, "these came out otherwise than mathematics says:" + surprises);
}

}  // namespace

void add_claims_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "claims", "What people say about attention, computed: true or not, with numbers");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One JSON object (docs/json.md)");
  command->footer(
      "Every number is computed by this machine's engine in this run, in about two seconds. A "
      "claim\n"
      "that is false is printed as NOT TRUE; the command fails only if a claim comes out "
      "otherwise\n"
      "than mathematics says.");
  command->callback([json] { run_claims(*json); });
}

}  // namespace qkv::cli
