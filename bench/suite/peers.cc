#include "bench/suite/peers.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <utility>

extern char** environ;

namespace qkv::bench {

extern const char* const peers_script;  // peers.py

namespace {

constexpr const char* kHelp = "; --python chooses another interpreter";

class Ended : public std::runtime_error {
 public:
  Ended() : std::runtime_error(std::string("bench --peers: the Python process ended") + kHelp) {}
};

}  // namespace

Peers::Peers(const std::string& python, const std::string& ggml) : python_(python), ggml_(ggml) {
  signal(SIGPIPE, SIG_IGN);  // an interpreter that ended is reported by answer()
  try {
    start();
  } catch (...) {
    stop();
    throw;
  }
}

Peers::~Peers() { stop(); }

void Peers::start() {
  int request[2];
  int reply[2];
  if (pipe2(request, O_CLOEXEC) != 0 || pipe2(reply, O_CLOEXEC) != 0)
    throw std::runtime_error("bench: no pipe to the peers");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, request[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, reply[1], STDOUT_FILENO);
  std::string name = python_;
  std::string flag = "-c";
  std::string script = peers_script;
  std::string ggml = ggml_;
  const std::array<char*, 5> arguments = {name.data(), flag.data(), script.data(), ggml.data(),
                                          nullptr};
  pid_t pid = -1;
  const int failed =
      posix_spawnp(&pid, python_.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(request[0]);
  close(reply[1]);
  to_ = fdopen(request[1], "w");
  from_ = fdopen(reply[0], "r");
  if (failed != 0)
    throw std::runtime_error("bench --peers: cannot start the interpreter \"" + python_ + "\"" +
                             kHelp);
  process_ = pid;
  const nlohmann::json hello = answer();
  present_.clear();
  for (const auto& peer : hello.at("present"))
    present_.push_back({peer.at("name"), peer.at("version")});
  missing_ = hello.at("missing");
}

void Peers::stop() {
  if (to_ != nullptr) std::fclose(std::exchange(to_, nullptr));  // its end of input is its end
  if (from_ != nullptr) std::fclose(std::exchange(from_, nullptr));
  if (process_ > 0) waitpid(std::exchange(process_, -1), nullptr, 0);
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
  if (line.empty()) throw Ended();
  return nlohmann::json::parse(line);
}

PeerTimes Peers::time(const std::string& peer, const Line& line, int threads, double seconds,
                      int least, const std::filesystem::path& folder) {
  PeerTimes answer;
  try {
    const nlohmann::json reply = ask(
        {{"peer", peer},
         {"shape",
          {line.batch, line.heads, line.heads_kv, line.queries, line.keys, line.dim, line.dim_v}},
         {"causal", line.causal},
         {"type", name_of(line.type)},
         {"kind", name_of(line.kind == Kind::call ? Kind::prefill : line.kind)},
         {"threads", threads},
         {"seconds", seconds},
         {"least", least},
         {"folder", folder.string()}});
    answer.times = reply.value("times", std::vector<double>{});
    answer.why = reply.value("why", "");
    if (reply.contains("difference")) answer.difference = reply.at("difference").get<double>();
  } catch (const Ended&) {  // an assertion of one peer is not the end of the others
    stop();
    start();
    answer.why = "its process ended";
  }
  return answer;
}

void Peers::forget() { ask({{"forget", true}}); }

}  // namespace qkv::bench
