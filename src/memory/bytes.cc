// A MemoryState as bytes; the layout stands in qkv/memory.h.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "memory/limits.h"
#include "qkv/memory.h"

static_assert(std::endian::native == std::endian::little,
              "states are little-endian, like all we run on");

namespace qkv {
namespace {

constexpr std::string_view kMagic = "qkvm";
constexpr std::uint32_t kVersion = 1;

std::uint64_t fnv1a(std::string_view bytes) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

template <class T>
void put(std::string& to, T x) {
  to.append(reinterpret_cast<const char*>(&x), sizeof x);
}

[[noreturn]] void bad(const std::string& what) {
  throw std::invalid_argument("not a state of qkv: " + what);
}

// Reads from the front of what is left.
struct Source {
  std::string_view left;

  std::string_view take(std::size_t size) {
    if (left.size() < size) bad("it ends too early");
    const std::string_view taken = left.substr(0, size);
    left.remove_prefix(size);
    return taken;
  }
  template <class T>
  T get() {
    T x;
    std::memcpy(&x, take(sizeof x).data(), sizeof x);
    return x;
  }
  double finite(const char* what) {
    const auto x = get<double>();
    if (!std::isfinite(x)) bad(std::string(what) + " is not finite");
    return x;
  }
};

}  // namespace

std::string MemoryState::bytes() const {
  std::string to(kMagic);
  put(to, kVersion);
  put(to, question_);
  put(to, static_cast<std::uint32_t>(weighted_.size()));
  put(to, static_cast<std::uint32_t>(top_));
  put(to, rows_);
  for (const double x : {max_, sum_, squares_, spread_}) put(to, x);
  for (const double x : weighted_) put(to, x);
  put(to, static_cast<std::uint32_t>(kept_.size()));
  for (const Kept& k : kept_) {
    put(to, k.score);
    put(to, static_cast<std::uint32_t>(k.label.size()));
    to += k.label;
  }
  put(to, fnv1a(to));
  return to;
}

MemoryState MemoryState::from_bytes(std::string_view bytes) {
  Source from{bytes};
  if (from.take(kMagic.size()) != kMagic) bad("it does not begin with \"qkvm\"");
  if (const auto version = from.get<std::uint32_t>(); version != kVersion)
    bad("version " + std::to_string(version) + ", this library reads version 1");
  if (from.left.size() < sizeof(std::uint64_t)) bad("it ends too early");
  Source check{bytes.substr(bytes.size() - sizeof(std::uint64_t))};
  if (check.get<std::uint64_t>() != fnv1a(bytes.substr(0, bytes.size() - sizeof(std::uint64_t))))
    bad("its checksum is wrong");
  from.left.remove_suffix(sizeof(std::uint64_t));

  const auto question = from.get<std::uint64_t>();
  const auto value_dim = from.get<std::uint32_t>();
  const auto top = from.get<std::uint32_t>();
  if (value_dim > kMaxMemoryDim || top > static_cast<std::uint32_t>(kMaxMemoryTop))
    bad("its sizes are too large");
  MemoryState state(value_dim, static_cast<int>(top), question);
  state.rows_ = from.get<std::int64_t>();
  if (state.rows_ < 0) bad("its row count is negative");
  state.max_ = from.get<double>();
  state.sum_ = from.finite("its sum");
  state.squares_ = from.finite("its sum of squares");
  state.spread_ = from.finite("its spread");
  for (double& w : state.weighted_) w = from.finite("a weighted sum");
  const bool hidden = state.max_ == -std::numeric_limits<double>::infinity();
  if (!hidden && !std::isfinite(state.max_)) bad("its maximum is not a score");
  // The largest row has weight 1, so that a visible state's sums are at least 1, but for rounding.
  if (hidden ? state.sum_ != 0 || state.squares_ != 0
             : !(state.sum_ > 0.5) || !(state.squares_ > 0.5) || state.rows_ == 0)
    bad("its sums do not fit its maximum");
  // No weight is above 1.
  const double most = static_cast<double>(state.rows_) * (1 + 1e-5);
  if (state.sum_ > most || state.squares_ > state.sum_ * (1 + 1e-5))
    bad("its sums do not fit its rows");
  const auto count = from.get<std::uint32_t>();
  if (count > top || count > static_cast<std::uint64_t>(state.rows_) || (hidden && count > 0))
    bad("it keeps more rows than it may");
  for (std::uint32_t i = 0; i < count; ++i) {
    const double score = from.finite("a score");
    const auto length = from.get<std::uint32_t>();
    Kept kept{score, std::string(from.take(length))};
    if (score > state.max_ || (i > 0 && before(kept.score, kept.label, state.kept_.back())))
      bad("its best rows are out of order");
    state.kept_.push_back(std::move(kept));
  }
  if (!from.left.empty()) bad("it has " + std::to_string(from.left.size()) + " bytes too many");
  return state;
}

}  // namespace qkv
