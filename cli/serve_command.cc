// The page, live: a server for one machine that answers with the data of a run.
#include <httplib.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/open_model.h"
#include "cli/output.h"
#include "lens/page.h"
#include "lens/words.h"

namespace qkv::cli {
namespace {

constexpr std::size_t kMostText = 4000;     // bytes of a request's text
constexpr std::size_t kMostPayload = 8192;  // bytes of a request's body, which nobody reads
constexpr std::size_t kMostSentences = 8;
constexpr int kSeconds = 5;           // for reading or writing one request
constexpr double kTimeout = 5;        // seconds that computing one answer may take
constexpr std::size_t kThreads = 32;  // a connection holds one, even while it says nothing

struct ServeOptions {
  std::string host = "127.0.0.1";
  int port = 8017;
  std::string model = kBundledModel;
  double timeout = kTimeout;
};

struct Models {
  models::Translator trained;
  models::Translator untrained;
};

// When an answer is too late. A translation looks before every step of the decoder, everything else between its parts, none of
// which takes longer than a text of the model's whole length does.
class Deadline {
 public:
  explicit Deadline(double seconds)
      : seconds_(seconds),
        end_(std::chrono::steady_clock::now() +
             std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                 std::chrono::duration<double>(seconds))) {}
  bool passed() const { return std::chrono::steady_clock::now() >= end_; }
  void check() const {
    if (passed()) throw models::Stopped("the deadline has passed");
  }
  double seconds() const { return seconds_; }

 private:
  double seconds_;
  std::chrono::steady_clock::time_point end_;
};

// A request that cannot be answered; the message is for the reader of the page.
class Refused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

std::string text_of(const httplib::Request& request) {
  const std::string text(lens::trim(request.get_param_value("text")));
  if (text.empty()) throw Refused("the text is empty; expected English or Chinese");
  if (text.size() > kMostText)
    throw Refused("the text has " + std::to_string(text.size()) + " bytes; at most " +
                  std::to_string(kMostText) + " are read");
  if (lens::find_invalid_utf8(text)) throw Refused("the text is not valid UTF-8");
  return text;
}

std::string look(const Models& models, const httplib::Request& request, const Deadline& deadline) {
  const models::Translator& model = models.trained;
  const std::string text = text_of(request);
  layers::AttentionTape tape, before;
  const models::Encoding encoding = model.encode(text, &tape);
  deadline.check();
  models.untrained.encode(text, &before);
  deadline.check();
  const lens::Run run = {.text = text,
                         .language = encoding.source_language,
                         .pieces = encoding.pieces,
                         .tape = &tape,
                         .roles = model.roles(),
                         .untrained = &before};
  return "[" + lens::page_data(run, {}) + "]";
}

std::string translate(const Models& models, const httplib::Request& request,
                      const Deadline& deadline) {
  const models::Translator& model = models.trained;
  const std::string text = text_of(request);
  const std::vector<lens::Span> sentences = lens::split_sentences(text);
  if (sentences.size() > kMostSentences)
    throw Refused("the text has " + std::to_string(sentences.size()) + " sentences; at most " +
                  std::to_string(kMostSentences) + " are translated at once");
  std::string runs;
  for (const lens::Span at : sentences) {
    const std::string sentence = text.substr(at.begin, at.end - at.begin);
    models::TranslateOptions options;
    options.alignment = true;
    options.threads = 1;  // requests run side by side
    options.stop = [&deadline] { return deadline.passed(); };
    const models::Translation translation = model.translate(sentence, options);
    layers::AttentionTape tape, before;
    model.replay(translation, tape);
    deadline.check();
    models.untrained.replay(translation, before);
    deadline.check();
    runs += (runs.empty() ? "" : ",") +
            lens::page_data(lens::TranslationRun{.source_text = sentence,
                                                 .source_language = translation.source_language,
                                                 .source_pieces = translation.source,
                                                 .target_text = translation.text,
                                                 .target_language = translation.target_language,
                                                 .target_pieces = translation.target,
                                                 .tape = &tape,
                                                 .roles = model.roles(),
                                                 .untrained = &before});
  }
  return "[" + runs + "]";
}

// A page of another site whose name was made to point here (DNS rebinding) sends its own name.
bool is_local(const httplib::Request& request, const std::string& host) {
  std::string name = request.get_header_value("Host");
  const std::size_t colon = name.rfind(':');
  if (colon != std::string::npos && name.find(']', colon) == std::string::npos) name.resize(colon);
  return name == host || name == "localhost" || name == "127.0.0.1" || name == "[::1]" ||
         host == "0.0.0.0" || host == "::";
}

using Answer = std::string (*)(const Models&, const httplib::Request&, const Deadline&);

void answer_with(httplib::Server& server, const std::string& path, const Models& models,
                 double timeout, Answer answer) {
  server.Get(path, [&models, timeout, answer](const httplib::Request& request,
                                              httplib::Response& response) {
    const Deadline deadline(timeout);
    std::string message;
    response.status = 422;
    try {
      const std::string found = answer(models, request, deadline);
      deadline.check();
      response.status = 200;
      return response.set_content(found, "application/json");
    } catch (const models::Stopped&) {
      response.status = 503;
      char seconds[32];
      std::snprintf(seconds, sizeof seconds, "%g", deadline.seconds());
      message = "no answer within " + std::string(seconds) +
                " seconds; expected a shorter text, or a longer --timeout";
    } catch (const Refused& error) {
      message = error.what();
    } catch (const std::invalid_argument& error) {
      message = without_prefix(error.what());
    }
    const nlohmann::json object = {{"error", message}};
    response.set_content(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                         "application/json");
  });
}

// Stops the server at SIGINT or SIGTERM. Made before any other thread, which then leave these signals to it; requests that
// run are answered first.
class Stopper {
 public:
  Stopper() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  void watch(httplib::Server& server) {
    waiter_ = std::thread([this, &server] {
      bool asked = false;
      const timespec moment = {.tv_sec = 0, .tv_nsec = 100'000'000};
      while (!done_) {
        asked |= sigtimedwait(&signals_, nullptr, &moment) > 0;
        // Before it runs, a server does not hear that it shall stop.
        if (asked && server.is_running()) return server.stop();
      }
    });
  }
  ~Stopper() {
    done_ = true;
    if (waiter_.joinable()) waiter_.join();
  }

 private:
  sigset_t signals_{};
  std::atomic<bool> done_ = false;
  std::thread waiter_;
};

void run_serve(const ServeOptions& options) {
  Stopper stopper;
  models::Translator trained = open_model(options.model);
  models::Translator untrained = trained.untrained(kUntrainedSeed);
  const Models models = {std::move(trained), std::move(untrained)};
  const std::string page = lens::live_page();
  httplib::Server server;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  // The library's own choice, SO_REUSEPORT, would let two servers share a port, each answering at random.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_payload_max_length(kMostPayload);
  server.set_read_timeout(kSeconds);
  server.set_write_timeout(kSeconds);
  // A connection that stays open would hold its thread; another one costs little on one machine.
  server.set_keep_alive_max_count(1);
  server.set_keep_alive_timeout(kSeconds);
  server.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                              {"X-Frame-Options", "DENY"},
                              {"Referrer-Policy", "no-referrer"},
                              {"Cache-Control", "no-store"}});
  server.set_pre_routing_handler([&](const httplib::Request& request, httplib::Response& response) {
    if (is_local(request, options.host)) return httplib::Server::HandlerResponse::Unhandled;
    response.status = 403;
    response.set_content("qkv answers to its own name only\n", "text/plain");
    return httplib::Server::HandlerResponse::Handled;
  });
  server.Get("/", [&page](const httplib::Request&, httplib::Response& response) {
    response.set_content(page, "text/html; charset=utf-8");
  });
  answer_with(server, "/look", models, options.timeout, look);
  answer_with(server, "/translate", models, options.timeout, translate);

  int port = options.port;
  const bool bound = port == 0 ? (port = server.bind_to_any_port(options.host)) > 0
                               : server.bind_to_port(options.host, port);
  if (!bound)
    throw Failure(Exit::failure, "cannot listen on " + options.host + ":" +
                                     std::to_string(options.port) +
                                     "; is the port in use? --port 0 takes a free one");
  stopper.watch(server);
  write_output("http://" + options.host + ":" + std::to_string(port) + "/\n");
  if (!server.listen_after_bind()) throw Failure(Exit::failure, "the server stopped by itself");
}

}  // namespace

void add_serve_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("serve", "The page of `look --html`, live: type a sentence and look");
  auto options = std::make_shared<ServeOptions>();
  command
      ->add_option("--port", options->port,
                   "The port; 0 takes a free one, printed on the first line")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  command
      ->add_option("--host", options->host,
                   "The address to listen on; others than this machine's own let others in")
      ->capture_default_str();
  command
      ->add_option("-m,--model", options->model,
                   "A Marian model's folder, or a bundled model's name")
      ->capture_default_str()
      ->type_name("FOLDER");
  command
      ->add_option("--timeout", options->timeout,
                   "Seconds for one answer; then it stops, with status 503")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("SECONDS");
  command->footer(
      "Prints its address and runs until Ctrl-C. Nothing that is typed leaves this machine.");
  command->callback([options] { run_serve(*options); });
}

}  // namespace qkv::cli
