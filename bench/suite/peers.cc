#include "bench/suite/peers.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

extern char** environ;

namespace qkv::bench {

extern const char* const peers_script;  // peers.py

namespace {

constexpr const char* kHelp = "; --python chooses another interpreter";

}  // namespace

Peers::Peers(const std::string& python) {
  signal(SIGPIPE, SIG_IGN);  // an interpreter that ended is reported by answer()
  int request[2];
  int reply[2];
  if (pipe2(request, O_CLOEXEC) != 0 || pipe2(reply, O_CLOEXEC) != 0)
    throw std::runtime_error("bench: no pipe to the peers");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, request[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, reply[1], STDOUT_FILENO);
  std::string name = python;
  std::string flag = "-c";
  std::string script = peers_script;
  const std::array<char*, 4> arguments = {name.data(), flag.data(), script.data(), nullptr};
  pid_t pid = -1;
  const int failed =
      posix_spawnp(&pid, python.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(request[0]);
  close(reply[1]);
  to_ = fdopen(request[1], "w");
  from_ = fdopen(reply[0], "r");
  if (failed != 0) {
    std::fclose(to_);
    std::fclose(from_);
    throw std::runtime_error("bench --peers: cannot start the interpreter \"" + python + "\"" +
                             kHelp);
  }
  process_ = pid;
  const nlohmann::json hello = answer();
  for (const auto& peer : hello.at("present"))
    present_.push_back({peer.at("name"), peer.at("version")});
  for (const auto& peer : hello.at("missing")) missing_.push_back(peer);
}

Peers::~Peers() {
  if (to_ != nullptr) std::fclose(to_);  // its end of input is its end
  if (from_ != nullptr) std::fclose(from_);
  if (process_ > 0) waitpid(process_, nullptr, 0);
}

nlohmann::json Peers::ask(const nlohmann::json& request) {
  std::fputs((request.dump() + "\n").c_str(), to_);
  std::fflush(to_);
  return answer();
}

nlohmann::json Peers::answer() {
  std::string line;
  for (int c = std::fgetc(from_); c != EOF && c != '\n'; c = std::fgetc(from_))
    line.push_back(static_cast<char>(c));
  if (line.empty())
    throw std::runtime_error(std::string("bench --peers: the Python process ended") + kHelp);
  return nlohmann::json::parse(line);
}

std::vector<double> Peers::time(const std::string& peer, const Line& line, int threads,
                                double seconds, int least, std::string& why) {
  const nlohmann::json reply =
      ask({{"peer", peer},
           {"shape",
            {line.batch, line.heads, line.heads_kv, line.queries, line.keys, line.dim, line.dim_v}},
           {"causal", line.causal},
           {"threads", threads},
           {"seconds", seconds},
           {"least", least}});
  if (reply.contains("why")) why = reply.at("why");
  return reply.value("times", std::vector<double>{});
}

void Peers::forget() { ask({{"forget", true}}); }

}  // namespace qkv::bench
