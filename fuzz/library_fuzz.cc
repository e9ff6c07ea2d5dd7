// Bytes as the files `qkv search` keeps: an index, alone or broken here and there with its hash made right again, and the journal beside
// it. What opens can be read to the end and asked; what was added to a journal is found when it is opened again.
#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/file.h"
#include "library/index.h"
#include "library/library.h"

namespace {

using qkv::library::Hash;
using qkv::library::hash_of;
using qkv::library::Index;
using qkv::library::Journal;
using qkv::library::Titles;

// Where the header ends, and its last field begins (library/index.h).
constexpr std::size_t kHeader = 104, kHash = kHeader - sizeof(Hash);

void require(bool fact) {
  if (!fact) std::abort();
}

std::string bytes_of(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void put(std::string& bytes, std::size_t at, const Hash& hash) {
  std::memcpy(bytes.data() + at, hash.data(), sizeof hash);
}

void look(const std::string& bytes) {
  const MemoryFile file(bytes);
  const std::optional<Index> index = Index::open(file.path());
  if (!index) return;
  std::size_t text = index->column().size();
  for (const std::string_view note : index->notes()) text += note.size();
  bool finite = true;
  for (std::int64_t row = 0; row < index->rows(); ++row) {
    text += index->title(row).size() + (index->line(row) > 0);
    for (std::int64_t d = 0; d < index->dim(); ++d)
      finite &= std::isfinite(index->vectors()[row * index->dim() + d]);
  }
  require(text <= bytes.size() + static_cast<std::size_t>(index->rows()));
  const std::vector<float> query(static_cast<std::size_t>(index->dim()), 1.0f);
  const auto answer = qkv::library::ask(*index, query, 0.05, 3, 1);
  if (finite) require(answer.hits.size() <= 3);
  for (const auto& hit : answer.hits) require(hit.row >= 0 && hit.row < index->rows());
}

// An index of a few titles as it is written, with `hits` bytes changed.
void broken_index(FuzzedDataProvider& from) {
  Titles titles;
  titles.column = from.ConsumeRandomLengthString(8);
  for (int i = from.ConsumeIntegralInRange(1, 5); i > 0; --i)
    titles.add(from.ConsumeRandomLengthString(12), static_cast<std::uint64_t>(i));
  for (int i = from.ConsumeIntegralInRange(0, 2); i > 0; --i) titles.skip(1, "why");
  if (titles.rows.empty()) return;
  const auto dim = from.ConsumeIntegralInRange<std::int64_t>(1, 4);
  const MemoryFile file("");
  {
    const Index index = Index::make(titles, dim, {1, 2}, {3, 4},
                                    std::vector<float>(titles.rows.size() * dim, 0.5f));
    const std::string path =
        std::filesystem::temp_directory_path() / ("qkv-library-fuzz-" + std::to_string(::getpid()));
    index.write(path);
    std::string bytes = bytes_of(path);
    std::filesystem::remove(path);
    look(bytes);
    const std::size_t head = bytes.size() - titles.rows.size() * dim * sizeof(float);
    for (int i = from.ConsumeIntegralInRange(1, 6); i > 0; --i)
      bytes[from.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1)] =
          from.ConsumeIntegral<char>();
    if (from.ConsumeBool()) bytes.resize(from.ConsumeIntegralInRange<std::size_t>(0, bytes.size()));
    if (bytes.size() >= head) {
      put(bytes, kHash, hash_of({bytes.data() + kHeader, head - kHeader}));
      put(bytes, kHash, hash_of({bytes.data(), kHeader}));
    }
    look(bytes);
  }
}

// Any bytes as a journal, or as what follows a true one.
void journal(FuzzedDataProvider& from) {
  const Hash model{5, 6};
  const auto dim = from.ConsumeIntegralInRange<std::int64_t>(1, 4);
  const auto wait = [] { std::abort(); };
  const std::vector<Hash> texts{{1, 1}, {2, 2}};
  const std::vector<float> vectors(2 * static_cast<std::size_t>(dim), 0.25f);
  const MemoryFile begun("");
  if (from.ConsumeBool()) Journal(begun.path(), dim, model, wait).add(texts, vectors);
  std::string bytes = bytes_of(begun.path());
  const std::size_t whole = bytes.size();
  if (from.ConsumeBool()) {  // a block whose hash is right
    const std::string content = from.ConsumeRandomLengthString(200);
    const std::uint64_t count = from.ConsumeIntegralInRange<std::uint64_t>(0, 9);
    bytes.append(reinterpret_cast<const char*>(&count), sizeof count).append(sizeof(Hash), '\0');
    put(bytes, bytes.size() - sizeof(Hash), hash_of(content));
    bytes += content;
  }
  bytes += from.ConsumeRemainingBytesAsString();
  const MemoryFile file(bytes);
  const Hash last{7, 7};
  const std::vector<float> one(static_cast<std::size_t>(dim), 0.75f);
  {
    Journal found(file.path(), dim, model, wait);
    if (whole > 0) require(found.size() >= 2 && found.find(texts[1]) != nullptr);
    found.add({&last, 1}, one);
  }
  Journal again(file.path(), dim, model, wait);
  const float* vector = again.find(last);
  require(vector != nullptr && std::equal(one.begin(), one.end(), vector));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider from(data, size);
  switch (from.ConsumeIntegralInRange(0, 2)) {
    case 0:
      look(from.ConsumeRemainingBytesAsString());
      break;
    case 1:
      broken_index(from);
      break;
    default:
      journal(from);
  }
  return 0;
}
