"""What commands about images share: ``documents`` describes one as docker's ``inspect`` does."""
