#include "cli/output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "cli/failure.h"
#include "lens/width.h"

namespace qkv::cli {
namespace {

// The variable as a positive number, or 0.
int number_from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && *end == '\0' && value > 0 && value < 10000 ? static_cast<int>(value) : 0;
}

bool is_set(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0';
}

}  // namespace

void write_output(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (written < 0 && errno == EPIPE) {
      throw Failure(Exit::closed, "standard output was closed before everything was written");
    } else if (written == 0 || (errno != EINTR && errno != EAGAIN)) {
      throw Failure(Exit::failure,
                    std::string("cannot write to standard output: ") + std::strerror(errno));
    }
  }
}

void write_file(const std::string& path, std::string_view text) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (!file) throw Failure(Exit::failure, "cannot write " + path + ": " + std::strerror(errno));
}

void warn(std::string_view message) {
  std::string text = "qkv: ";
  for (std::size_t begin = 0; begin <= message.size();) {  // line feeds are the program's own
    const std::size_t end = std::min(message.find('\n', begin), message.size());
    text += lens::printable(message.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  std::fputs(text.c_str(), stderr);
}

lens::Screen standard_screen() {
  lens::Screen screen;
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  winsize size{};
  if (terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    screen.columns = size.ws_col;
  } else if (const int columns = number_from_environment("COLUMNS"); columns > 0) {
    screen.columns = columns;
  }
  const char* kind = std::getenv("TERM");
  screen.colour =
      terminal && !is_set("NO_COLOR") && !(kind != nullptr && std::strcmp(kind, "dumb") == 0);
  return screen;
}

bool error_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

}  // namespace qkv::cli
