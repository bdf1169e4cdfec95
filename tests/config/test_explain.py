from segzoo.config.explain import explain_keys, explain_text


def test_every_key_has_a_meaning() -> None:
    keys = list(explain_keys())
    assert len(keys) > 40
    assert [key for key, _, _, meaning in keys if not meaning] == []


def test_text_shows_type_default_and_meaning() -> None:
    text = explain_text()
    assert "data.batch_size: integer = 16\n      Images in one batch, over all devices" in text
    assert "model.output_stride: 8 | 16 | 32 = 16" in text
    assert "data.name: text (required)" in text
