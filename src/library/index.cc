#include "library/index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "models/mapped_file.h"

static_assert(std::endian::native == std::endian::little, "files are mapped as they are");

namespace qkv::library {
namespace {

constexpr char kMagic[8] = {'q', 'k', 'v', 'i', 'n', 'd', 'e', 'x'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kAlignment = 64;

struct Header {
  char magic[8];
  std::uint32_t version, dim;
  std::uint64_t rows, title_bytes, note_bytes, skipped, blank;
  Hash model, source, content;
};
static_assert(sizeof(Header) == 16 + 5 * 8 + 3 * 16);

std::size_t aligned(std::size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

template <class T>
void put(std::string& to, const T& value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::uint64_t number_at(const std::byte* numbers, std::int64_t i) {
  std::uint64_t value;
  std::memcpy(&value, numbers + i * 8, 8);
  return value;
}

// Of the header but for its last field, and of what is between it and the vectors.
Hash hash_of_head(Header header, std::string_view between) {
  header.content = hash_of(between);
  return hash_of({reinterpret_cast<const char*>(&header), sizeof header});
}

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw std::runtime_error(path.string() + ": cannot be written: " + std::strerror(errno));
}

// A file that is replaced when all of it is there.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path)
      : path_(path),
        name_(path.string() + ".new-XXXXXX"),
        file_(::mkostemp(name_.data(), O_CLOEXEC)) {
    if (file_ < 0) fail(path_);
  }
  ~NewFile() {
    if (file_ < 0) return;
    ::close(file_);
    ::unlink(name_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(const void* bytes, std::size_t size) {
    const char* from = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t written = ::write(file_, from, size);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail(path_);
      from += written;
      size -= static_cast<std::size_t>(written);
    }
  }
  void finish() {
    const bool synced = ::fsync(file_) == 0;
    if (!synced || ::fchmod(file_, 0644) != 0 || ::rename(name_.c_str(), path_.c_str()) != 0)
      fail(path_);
    ::close(std::exchange(file_, -1));
  }

 private:
  std::filesystem::path path_;
  std::string name_;
  int file_;
};

}  // namespace

std::string_view Index::title(std::int64_t row) const {
  const std::uint64_t from = number_at(places_, row);
  return titles_.substr(from, number_at(places_, row + 1) - from);
}

std::uint64_t Index::line(std::int64_t row) const { return number_at(lines_, row); }

std::vector<std::string_view> Index::notes() const {
  std::vector<std::string_view> all;
  for (std::string_view left = notes_; !left.empty();) {
    const std::size_t end = std::min(left.find('\n'), left.size());
    all.push_back(left.substr(0, end));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return all;
}

// `size` bytes, of which the vectors may be missing altogether.
std::optional<Index> Index::read(std::shared_ptr<const std::byte> bytes, std::size_t size) {
  Header header;
  if (size < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.get(), sizeof header);
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version != kVersion ||
      header.dim < 1 || header.dim > 65536 || header.rows < 1 || header.rows > INT32_MAX ||
      header.title_bytes > kMost || header.note_bytes > kMost)
    return std::nullopt;
  Index index;
  const std::size_t used =
      sizeof header + (2 * header.rows + 1) * 8 + header.title_bytes + header.note_bytes;
  index.head_ = aligned(used);
  const std::size_t vectors = header.rows * header.dim * sizeof(float);
  if (size != index.head_ && size != index.head_ + vectors) return std::nullopt;
  const auto* text = reinterpret_cast<const char*>(bytes.get());
  if (hash_of_head(header, {text + sizeof header, index.head_ - sizeof header}) != header.content)
    return std::nullopt;

  index.rows_ = static_cast<std::int64_t>(header.rows);
  index.dim_ = header.dim;
  index.model_ = header.model;
  index.source_ = header.source;
  index.skipped_ = header.skipped;
  index.blank_ = header.blank;
  index.lines_ = bytes.get() + sizeof header;
  index.places_ = index.lines_ + header.rows * 8;
  const std::size_t titles = sizeof header + (2 * header.rows + 1) * 8;
  index.titles_ = {text + titles, header.title_bytes};
  std::string_view rest(text + titles + header.title_bytes, header.note_bytes);
  index.column_ = rest.substr(0, rest.find('\n'));
  index.notes_ = rest.substr(std::min(index.column_.size() + 1, rest.size()));
  for (std::int64_t row = 0; row <= index.rows_; ++row)  // whatever the hash says
    if (number_at(index.places_, row) > header.title_bytes ||
        (row > 0 && number_at(index.places_, row) < number_at(index.places_, row - 1)))
      return std::nullopt;
  if (size > index.head_)
    index.vectors_ = reinterpret_cast<const float*>(bytes.get() + index.head_);
  index.bytes_ = std::move(bytes);
  return index;
}

std::optional<Index> Index::open(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return std::nullopt;
  const models::MappedFile file = models::map_file(path);
  std::optional<Index> index = read(file.bytes, file.size);
  return index && index->vectors_ != nullptr ? index : std::nullopt;
}

Index Index::make(const Titles& titles, std::int64_t dim, const Hash& model, const Hash& source,
                  std::vector<float> vectors) {
  std::string notes = titles.column + "\n", content, text;
  for (const std::string& note : titles.notes) notes += note + "\n";
  for (const Title& title : titles.rows) put(content, title.line);
  for (const Title& title : titles.rows) {
    put(content, std::uint64_t{text.size()});
    text += title.text;
  }
  put(content, std::uint64_t{text.size()});
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.dim = static_cast<std::uint32_t>(dim);
  header.rows = titles.rows.size();
  header.title_bytes = text.size();
  header.note_bytes = notes.size();
  header.skipped = titles.skipped;
  header.blank = titles.blank;
  header.model = model;
  header.source = source;
  content += text + notes;
  content.resize(aligned(sizeof header + content.size()) - sizeof header);
  header.content = hash_of_head(header, content);

  const auto whole = std::make_shared<std::string>();
  put(*whole, header);
  *whole += content;
  const std::shared_ptr<const std::byte> bytes(whole,
                                               reinterpret_cast<const std::byte*>(whole->data()));
  std::optional<Index> index = read(bytes, whole->size());
  if (!index) throw std::logic_error("an index that was just made cannot be read");
  const auto kept = std::make_shared<std::vector<float>>(std::move(vectors));
  index->own_ = {kept, kept->data()};
  index->vectors_ = kept->data();
  return *std::move(index);
}

void Index::write(const std::filesystem::path& path) const {
  NewFile file(path);
  file.write(bytes_.get(), head_);
  file.write(vectors_, static_cast<std::size_t>(rows_ * dim_) * sizeof(float));
  file.finish();
}

}  // namespace qkv::library
