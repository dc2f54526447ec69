"""From the lake to histories: judge every row, sort and merge events, write one tokenised history per member."""
