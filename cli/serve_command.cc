// The page, live: a server for one machine that answers with the data of a run.
#include <httplib.h>

#include <atomic>
#include <csignal>
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
constexpr std::size_t kThreads = 32;  // a connection holds one, even while it says nothing

struct ServeOptions {
  std::string host = "127.0.0.1";
  int port = 8017;
  std::string model = kBundledModel;
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

std::string look(const models::Translator& model, const httplib::Request& request) {
  const std::string text = text_of(request);
  layers::AttentionTape tape;
  const models::Encoding encoding = model.encode(text, &tape);
  const lens::Run run = {.text = text,
                         .language = encoding.source_language,
                         .pieces = encoding.pieces,
                         .tape = &tape,
                         .roles = model.roles()};
  return "[" + lens::page_data(run, {}) + "]";
}

std::string translate(const models::Translator& model, const httplib::Request& request) {
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
    const models::Translation translation = model.translate(sentence, options);
    layers::AttentionTape tape;
    model.replay(translation, tape);
    runs += (runs.empty() ? "" : ",") +
            lens::page_data(lens::TranslationRun{.source_text = sentence,
                                                 .source_language = translation.source_language,
                                                 .source_pieces = translation.source,
                                                 .target_text = translation.text,
                                                 .target_language = translation.target_language,
                                                 .target_pieces = translation.target,
                                                 .tape = &tape,
                                                 .roles = model.roles()});
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

using Answer = std::string (*)(const models::Translator&, const httplib::Request&);

void answer_with(httplib::Server& server, const std::string& path, const models::Translator& model,
                 Answer answer) {
  server.Get(path, [&model, answer](const httplib::Request& request, httplib::Response& response) {
    std::string message;
    try {
      return response.set_content(answer(model, request), "application/json");
    } catch (const Refused& error) {
      message = error.what();
    } catch (const std::invalid_argument& error) {
      message = without_prefix(error.what());
    }
    response.status = 422;
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
  const models::Translator model = open_model(options.model);
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
  answer_with(server, "/look", model, look);
  answer_with(server, "/translate", model, translate);

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
  command->footer(
      "Prints its address and runs until Ctrl-C. Nothing that is typed leaves this machine.");
  command->callback([options] { run_serve(*options); });
}

}  // namespace qkv::cli
