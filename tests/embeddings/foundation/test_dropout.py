import torch

from embeddings.foundation.network import byte_dropout


def test_it_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    x = byte_dropout(torch.ones(400, 501), 0.25, training=True)
    assert abs(float((x == 0).float().mean()) - 0.25) < 0.01
    torch.testing.assert_close(x.unique(), torch.tensor([0.0, 1 / 0.75]))


def test_outside_of_training_or_without_a_share_nothing_changes():
    x = torch.randn(3, 5)
    assert byte_dropout(x, 0.5, training=False) is x
    assert byte_dropout(x, 0.0, training=True) is x


def test_the_seed_decides_and_draws_differ():
    def drawn():
        return byte_dropout(torch.ones(7, 9), 0.5, training=True)

    torch.manual_seed(1)
    one, two = drawn(), drawn()
    torch.manual_seed(1)
    assert torch.equal(one, drawn())
    assert not torch.equal(one, two)


def test_the_gradient_passes_where_the_entry_stayed():
    x = torch.ones(50, requires_grad=True)
    kept = byte_dropout(x, 0.5, training=True)
    kept.sum().backward()
    assert torch.equal(x.grad, kept.detach())
