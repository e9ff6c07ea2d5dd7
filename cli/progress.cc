#include "cli/progress.h"

#include <cstdio>

#include "cli/output.h"

namespace qkv::cli {

void Progress::show(const std::string& text) {
  const auto now = std::chrono::steady_clock::now();
  if (!error_is_terminal() || now - start_ < std::chrono::seconds(2)) return;
  if (visible_ && now - last_ < std::chrono::milliseconds(200)) return;
  std::fprintf(stderr, "\r%s\x1b[K", text.c_str());
  visible_ = true;
  last_ = now;
}

void Progress::clear() {
  if (visible_) std::fputs("\r\x1b[K", stderr);
  visible_ = false;
}

double Progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

}  // namespace qkv::cli
