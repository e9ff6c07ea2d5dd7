#include "models/finder/finder.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

namespace qkv::models::finder {
namespace {

using layers::Buffer;

Buffer buffer_of(const std::vector<float>& values) { return {values.begin(), values.end()}; }

float logit(float p) { return std::log(p / (1 - p)); }
float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

Finder Finder::load(const std::filesystem::path& folder) {
  Finder f;
  f.config_ = Config::load(folder);
  const Config& c = f.config_;
  const Checkpoint file(folder);
  f.picture_ = PictureEncoder(file, c);

  f.pieces_ = {buffer_of(file.tensor("text.pieces.weight", {c.vocabulary, c.piece})),
               Buffer(static_cast<std::size_t>(c.piece), 0.0f), c.piece, 1};
  f.widen_ = file.linear("text.widen", c.width, c.piece);
  f.word_position_ = buffer_of(file.tensor("text.position", {c.words, c.width}));
  for (int i = 0; i < c.text_layers; ++i)
    f.text_.emplace_back(file, "text.layers." + std::to_string(i),
                         "text." + std::to_string(i) + ".self", c.width, c.heads, c.text_ffn);
  f.text_norm_ = file.norm("text.norm", c.width);

  f.select_picture_ = file.linear("select_picture", c.width, c.width);
  f.select_text_ = file.linear("select_text", c.width, c.width);
  f.select_bias_ = file.tensor("select_bias", {1})[0];
  f.query_picture_ = file.linear("query_picture", c.width, c.width);
  f.query_text_ = file.linear("query_text", c.width, c.width);
  f.presence_token_ = buffer_of(file.tensor("presence_token", {c.width}));
  for (int i = 0; i < c.decoder_layers; ++i) {
    const std::string name = "decoder." + std::to_string(i);
    f.decoder_.emplace_back(file, name, name, c.width, c.heads, c.decoder_ffn);
  }
  f.norm_ = file.norm("norm", c.width);
  f.presence_ = file.linear("presence", 1, c.width);
  f.score_ = file.linear("score", 1, c.width);
  f.box_ = head_of(file, "box", c.width, 4);
  f.mask_ = head_of(file, "mask", c.width, c.pixel + 1);
  return f;
}

Picture Finder::look(std::span<const float> rgb, int threads, layers::AttentionTape* tape) const {
  const std::int64_t numbers = std::int64_t{3} * config_.image * config_.image;
  if (std::ssize(rgb) != numbers)
    throw std::invalid_argument("Finder: look: expected " + std::to_string(config_.image) + "×" +
                                std::to_string(config_.image) + "×3 = " + std::to_string(numbers) +
                                " numbers, got " + std::to_string(rgb.size()));
  const auto wrong =
      std::find_if(rgb.begin(), rgb.end(), [](float v) { return !(v >= 0 && v <= 1); });
  if (wrong != rgb.end())
    throw std::invalid_argument("Finder: look: expected numbers in [0, 1], got " +
                                std::to_string(*wrong));
  const std::int64_t tokens = config_.tokens(), pixels = config_.mask_side() * config_.mask_side();
  Picture picture;
  picture.tokens.resize(static_cast<std::size_t>(tokens * config_.width));
  picture.pixels.resize(static_cast<std::size_t>(pixels * config_.pixel));
  picture_.forward(rgb.data(), picture.tokens.data(), picture.pixels.data(), threads, tape);
  for (const DecoderBlock& layer : decoder_) {
    Buffer& remembered = picture.remembered.emplace_back();
    layer.picture().remember(
        picture.tokens.data(), tokens,
        layers::at_least(remembered, tokens * layer.picture().remembered_width()), threads);
  }
  return picture;
}

Buffer Finder::read(std::span<const int> pieces, BlockScratch& scratch, int threads,
                    layers::AttentionTape* tape) const {
  const std::int64_t count = std::ssize(pieces), width = config_.width;
  Buffer narrow(static_cast<std::size_t>(count * config_.piece));
  for (std::int64_t i = 0; i < count; ++i)
    pieces_.forward(pieces[i], 0, narrow.data() + i * config_.piece);
  Buffer x(static_cast<std::size_t>(count * width));
  widen_.forward(narrow.data(), config_.piece, count, x.data(), width, threads);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += word_position_[i];
  for (const EncoderBlock& layer : text_) layer.forward(x.data(), count, scratch, threads, tape);
  text_norm_.forward(x.data(), nullptr, count, x.data());
  return x;
}

void Finder::choose(const Picture& picture, const float* meaning, Output& output,
                    int threads) const {
  const std::int64_t width = config_.width, tokens = config_.tokens();
  Buffer asked(static_cast<std::size_t>(width)), offered(picture.tokens.size());
  select_text_.forward(meaning, width, 1, asked.data(), width, threads);
  select_picture_.forward(picture.tokens.data(), width, tokens, offered.data(), width, threads);
  const layers::Linear product(width, layers::LinearPart{asked.data(), nullptr, 1});
  output.select.resize(static_cast<std::size_t>(tokens));
  product.forward(offered.data(), width, tokens, output.select.data(), 1, threads);
  for (float& value : output.select)
    value = value / std::sqrt(static_cast<float>(width)) + select_bias_;

  std::vector<int> order(static_cast<std::size_t>(tokens));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return output.select[a] > output.select[b]; });
  output.chosen.assign(order.begin(), order.begin() + config_.queries);
}

void Finder::conclude(const Picture& picture, const Buffer& x, Output& output, int threads) const {
  const std::int64_t width = config_.width, queries = config_.queries, side = config_.side();
  Buffer y(x.size());
  norm_.forward(x.data(), nullptr, queries + 1, y.data());
  const float* said = y.data() + width;  // the first row is the presence token's
  presence_.forward(y.data(), width, 1, &output.presence, 1, threads);
  output.score.resize(static_cast<std::size_t>(queries));
  score_.forward(said, width, queries, output.score.data(), 1, threads);

  Buffer hidden, box(static_cast<std::size_t>(queries * 4));
  box_.forward(said, queries, box.data(), hidden, threads);
  for (std::int64_t q = 0; q < queries; ++q) {
    // relative to the middle of the token that the query started from
    const auto anchor = [&](std::int64_t place) {
      return logit((static_cast<float>(place) + 0.5f) / static_cast<float>(side));
    };
    const float* b = box.data() + q * 4;
    output.boxes.push_back({sigmoid(b[0] + anchor(output.chosen[q] % side)),
                            sigmoid(b[1] + anchor(output.chosen[q] / side)), sigmoid(b[2] - 1.5f),
                            sigmoid(b[3] - 1.5f)});
  }

  // masks[q][pixel] = ¼ · mask[q]·pixels[pixel] + mask[q][last]
  const std::int64_t channels = config_.pixel;
  const std::int64_t area = config_.mask_side() * config_.mask_side();
  Buffer mask(static_cast<std::size_t>(queries * (channels + 1)));
  mask_.forward(said, queries, mask.data(), hidden, threads);
  Buffer weight(static_cast<std::size_t>(queries * channels)),
      bias(static_cast<std::size_t>(queries));
  for (std::int64_t q = 0; q < queries; ++q) {
    const float* row = mask.data() + q * (channels + 1);
    for (std::int64_t c = 0; c < channels; ++c) weight[q * channels + c] = row[c] * 0.25f;
    bias[q] = row[channels];
  }
  const layers::Linear product(channels, layers::LinearPart{weight.data(), bias.data(), queries});
  Buffer logits(static_cast<std::size_t>(area * queries));
  product.forward(picture.pixels.data(), channels, area, logits.data(), queries, threads);
  output.masks.resize(logits.size());
  for (std::int64_t q = 0; q < queries; ++q)
    for (std::int64_t i = 0; i < area; ++i) output.masks[q * area + i] = logits[i * queries + q];
}

Output Finder::ask(const Picture& picture, std::span<const int> pieces, int threads,
                   layers::AttentionTape* tape) const {
  if (pieces.empty() || std::ssize(pieces) > config_.words)
    throw std::invalid_argument("Finder: ask: expected 1 to " + std::to_string(config_.words) +
                                " pieces, got " + std::to_string(pieces.size()));
  for (const int id : pieces)
    if (id < 0 || id >= config_.vocabulary)
      throw std::invalid_argument("Finder: ask: expected ids below " +
                                  std::to_string(config_.vocabulary) + ", got " +
                                  std::to_string(id));
  if (std::ssize(picture.remembered) != std::ssize(decoder_))
    throw std::invalid_argument("Finder: ask: expected a picture that this finder looked at");

  const std::int64_t width = config_.width, queries = config_.queries, words = std::ssize(pieces);
  BlockScratch scratch;
  const Buffer text = read(pieces, scratch, threads, tape);
  Buffer meaning(static_cast<std::size_t>(width), 0.0f);
  for (std::int64_t i = 0; i < words; ++i)
    for (std::int64_t d = 0; d < width; ++d) meaning[d] += text[i * width + d];
  for (float& value : meaning) value /= static_cast<float>(words);

  Output output;
  choose(picture, meaning.data(), output, threads);

  // x = the presence token, then the chosen tokens, each with what is asked
  Buffer x(static_cast<std::size_t>((queries + 1) * width)), chosen(x.size()),
      asked(static_cast<std::size_t>(width));
  std::copy(presence_token_.begin(), presence_token_.end(), x.begin());
  for (std::int64_t q = 0; q < queries; ++q)
    std::copy_n(picture.tokens.data() + output.chosen[q] * width, width, chosen.data() + q * width);
  query_picture_.forward(chosen.data(), width, queries, x.data() + width, width, threads);
  query_text_.forward(meaning.data(), width, 1, asked.data(), width, threads);
  for (std::int64_t q = 1; q <= queries; ++q)
    for (std::int64_t d = 0; d < width; ++d) x[q * width + d] += asked[d];

  Buffer remembered;
  for (std::size_t i = 0; i < decoder_.size(); ++i) {
    const layers::CrossAttention& reader = decoder_[i].words();
    reader.remember(text.data(), words,
                    layers::at_least(remembered, words * reader.remembered_width()), threads);
    decoder_[i].forward(x.data(), queries + 1, remembered.data(), words,
                        picture.remembered[i].data(), config_.tokens(), scratch, threads, tape);
  }
  conclude(picture, x, output, threads);
  return output;
}

}  // namespace qkv::models::finder
