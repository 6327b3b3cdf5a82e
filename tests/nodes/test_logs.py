import logging

import pytest

from wuerstchen_nodes.comfy.logs import without


@pytest.mark.parametrize("name", [None, "comfy.sd"])
def test_a_message_is_kept_out_whichever_logger_it_comes_from(caplog, name):
    logger = logging.getLogger(name)
    with without("No VAE weights"):
        logger.warning("WARNING: %s detected", "No VAE weights")
        logger.warning("something else")
    logger.warning("No VAE weights, later")
    assert caplog.messages == ["something else", "No VAE weights, later"]


def test_the_message_comes_back_after_an_error(caplog):
    with pytest.raises(ZeroDivisionError), without("hidden"):
        raise ZeroDivisionError
    logging.getLogger("comfy.sd").warning("hidden")
    assert caplog.messages == ["hidden"]
