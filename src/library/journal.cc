#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "library/index.h"

namespace qkv::library {
namespace {

constexpr char kMagic[8] = {'q', 'k', 'v', 'j', 'o', 'u', 'r', 'n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kMostInABlock = 1 << 20;

struct Start {
  char magic[8];
  std::uint32_t version, dim;
  Hash model;
};
struct Block {
  std::uint64_t count;
  Hash content;
};

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  throw std::runtime_error(path.string() + ": " + what + ": " + std::strerror(errno));
}

// All of it, or false at the end of the file.
bool read_all(int file, void* to, std::size_t size) {
  char* at = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t got = ::read(file, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

void write_all(int file, const std::string& bytes, const std::filesystem::path& path) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(file, bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail(path, "cannot be written");
    done += static_cast<std::size_t>(written);
  }
}

template <class T>
void put(std::string& to, const T* values, std::size_t count) {
  to.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

}  // namespace

Journal::Journal(std::filesystem::path path, std::int64_t dim, const Hash& model, void (*waiting)())
    : path_(std::move(path)), dim_(dim), model_(model) {
  for (;;) {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file_ < 0) fail(path_, "cannot be opened");
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) fail(path_, "cannot be locked");
      waiting();
      while (::flock(file_, LOCK_EX) != 0)
        if (errno != EINTR) fail(path_, "cannot be locked");
    }
    // Whoever had it may have removed it meanwhile.
    struct stat mine {
    }, there{};
    if (::fstat(file_, &mine) == 0 && ::stat(path_.c_str(), &there) == 0 &&
        mine.st_ino == there.st_ino)
      break;
    ::close(file_);
  }
  recover();
}

Journal::~Journal() {
  if (file_ >= 0) ::close(file_);
}

void Journal::recover() {
  Start start{};
  const bool usable = read_all(file_, &start, sizeof start) &&
                      std::memcmp(start.magic, kMagic, sizeof kMagic) == 0 &&
                      start.version == kVersion && start.dim == dim_ && start.model == model_;
  off_t whole = usable ? sizeof start : 0;
  for (Block block; usable && read_all(file_, &block, sizeof block);) {
    if (block.count < 1 || block.count > kMostInABlock) break;
    const auto count = static_cast<std::size_t>(block.count);
    const std::size_t size =
        count * (sizeof(Hash) + static_cast<std::size_t>(dim_) * sizeof(float));
    struct stat status {};
    if (::fstat(file_, &status) != 0 ||
        size > static_cast<std::size_t>(status.st_size - whole) - sizeof block)
      break;
    std::string bytes(size, '\0');
    if (!read_all(file_, bytes.data(), size) || hash_of(bytes) != block.content) break;
    std::vector<float>& vectors = blocks_.emplace_back(count * static_cast<std::size_t>(dim_));
    std::memcpy(vectors.data(), bytes.data() + count * sizeof(Hash),
                vectors.size() * sizeof(float));
    for (std::size_t i = 0; i < count; ++i) {
      Hash text;
      std::memcpy(&text, bytes.data() + i * sizeof text, sizeof text);
      known_[text] = vectors.data() + i * static_cast<std::size_t>(dim_);
    }
    whole += static_cast<off_t>(sizeof block + size);
  }
  if (::ftruncate(file_, whole) != 0 || ::lseek(file_, 0, SEEK_END) < 0)
    fail(path_, "cannot be written");
  if (usable) return;
  std::memcpy(start.magic, kMagic, sizeof kMagic);
  start.version = kVersion;
  start.dim = static_cast<std::uint32_t>(dim_);
  start.model = model_;
  std::string bytes;
  put(bytes, &start, 1);
  write_all(file_, bytes, path_);
}

const float* Journal::find(const Hash& text) const {
  const auto found = known_.find(text);
  return found == known_.end() ? nullptr : found->second;
}

void Journal::add(std::span<const Hash> texts, std::vector<float> vectors) {
  std::string content, bytes;
  put(content, texts.data(), texts.size());
  put(content, vectors.data(), vectors.size());
  const Block block{texts.size(), hash_of(content)};
  put(bytes, &block, 1);
  write_all(file_, bytes + content, path_);
  const std::vector<float>& kept = blocks_.emplace_back(std::move(vectors));
  for (std::size_t i = 0; i < texts.size(); ++i)
    known_[texts[i]] = kept.data() + i * static_cast<std::size_t>(dim_);
}

void Journal::remove() { ::unlink(path_.c_str()); }

}  // namespace qkv::library
