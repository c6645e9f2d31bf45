"""Called by mkdocs (mkdocs.yml): pages that are not there leave the navigation, and links to files of the source
outside docs/, which the site does not have, become their names."""

import os
import re


def existing(items, folder):
    for item in items:
        ((title, target),) = item.items()
        if isinstance(target, list):
            if inner := list(existing(target, folder)):
                yield {title: inner}
        elif os.path.exists(os.path.join(folder, target)):
            yield item


def on_config(config):
    config["nav"] = list(existing(config["nav"], config["docs_dir"]))
    return config


def on_page_markdown(markdown, **_):
    named = re.sub(r"\[`?([^\]`]+)`?\]\(\.\./\1\)", r"`\1`", markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)", r"\1 (`\2`)", named)
